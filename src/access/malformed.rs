//! The ways a request can fail to have exactly one reading.

/// Why a request was refused before any policy was asked. Each is answered 400, or what is closer, and recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Not `/…`: asterisk, authority or another form where a path is needed.
    #[error("the request target is not an absolute path")]
    Target,
    /// Longer than the configured limit.
    #[error("the request target is too long")]
    TargetTooLong,
    /// `%` not followed by two hex digits.
    #[error("the path has an incomplete percent-encoding")]
    PercentEncoding,
    /// `%25`, which some origins decode twice.
    #[error("the path has an encoded percent sign")]
    EncodedPercent,
    /// `%2F` or `%5C`.
    #[error("the path has an encoded slash or backslash")]
    EncodedSlash,
    /// A raw backslash.
    #[error("the path has a backslash")]
    Backslash,
    /// `.` or `..` as a segment, in any encoding.
    #[error("the path has a dot segment")]
    DotSegment,
    /// `//`.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `;` in any encoding: path parameters, which origins strip differently.
    #[error("the path has a semicolon")]
    Semicolon,
    /// `#`, raw or encoded.
    #[error("the path has a fragment sign")]
    Fragment,
    /// A control character (NUL and DEL among them), raw or encoded, or a raw space.
    #[error("the path has a control byte")]
    ControlByte,
    /// A raw byte outside ASCII, or one RFC 3986 has no place for in a path.
    #[error("the path has a byte that must be percent-encoded")]
    RawByte,
    /// A character that some origins fold into one that means something in a path.
    #[error("the path has a character that looks like a separator or a dot")]
    LookAlike,
    /// A letter that an origin which folds case reads as another.
    #[error("the path has a letter that changes where case is folded")]
    LetterCase,
    /// The encoded bytes are not UTF-8.
    #[error("the path is not UTF-8")]
    Utf8,
    /// No `Host` and no authority.
    #[error("the request names no host")]
    HostMissing,
    /// More than one `Host`.
    #[error("the request names several hosts")]
    HostRepeated,
    /// Not a host name or address with an optional port.
    #[error("the host is not valid")]
    Host,
    /// `Host` and the authority of the target disagree.
    #[error("Host and the request target disagree")]
    HostMismatch,
    /// More than one `Authorization`.
    #[error("the request carries several Authorization headers")]
    AuthorizationRepeated,
    /// Not method, target and `HTTP/1.0` or `HTTP/1.1` on one line, or something before it.
    #[error("the request line is not well formed")]
    RequestLine,
    /// Not a name, a colon and a value on one line.
    #[error("a header line is not well formed")]
    FieldLine,
    /// The head is longer than the configured limit, or a name in it absurdly long.
    #[error("the head is too long")]
    HeadTooLong,
    /// The head has more fields than the configured limit.
    #[error("the head has too many fields")]
    TooManyFields,
    /// `Content-Length` and `Transfer-Encoding`, or a coding other than `chunked`.
    #[error("the length of the body is ambiguous")]
    Framing,
    /// An `Expect` other than `100-continue`.
    #[error("the Expect header is not supported")]
    Expect,
}

impl Malformed {
    /// The word for it in a record's `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Target => "malformed_target",
            Self::TargetTooLong => "malformed_target_too_long",
            Self::PercentEncoding => "malformed_percent_encoding",
            Self::EncodedPercent => "malformed_encoded_percent",
            Self::EncodedSlash => "malformed_encoded_slash",
            Self::Backslash => "malformed_backslash",
            Self::DotSegment => "malformed_dot_segment",
            Self::EmptySegment => "malformed_empty_segment",
            Self::Semicolon => "malformed_semicolon",
            Self::Fragment => "malformed_fragment",
            Self::ControlByte => "malformed_control_byte",
            Self::RawByte => "malformed_raw_byte",
            Self::LookAlike => "malformed_look_alike",
            Self::LetterCase => "malformed_letter_case",
            Self::Utf8 => "malformed_utf8",
            Self::HostMissing => "malformed_host_missing",
            Self::HostRepeated => "malformed_host_repeated",
            Self::Host => "malformed_host",
            Self::HostMismatch => "malformed_host_mismatch",
            Self::AuthorizationRepeated => "malformed_authorization_repeated",
            Self::RequestLine => "malformed_request_line",
            Self::FieldLine => "malformed_field_line",
            Self::HeadTooLong => "malformed_head_too_long",
            Self::TooManyFields => "malformed_too_many_fields",
            Self::Framing => "malformed_framing",
            Self::Expect => "malformed_expect",
        }
    }
}
