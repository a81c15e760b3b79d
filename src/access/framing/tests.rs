use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { bytes: 4_096, fields: 8 };

/// What comes of bytes given in pieces: where heads ended, and the refusal.
fn read(pieces: &[&[u8]]) -> (Vec<usize>, Option<(Malformed, bool)>) {
    let mut framer = Framer::new(BOUNDS);
    let (mut ends, mut place) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let taken = match framer.read(rest) {
                Segment::Passing(n) | Segment::Head(n) => n,
                Segment::HeadEnd(n) => {
                    ends.push(place + n);
                    n
                }
                Segment::Refused { fault, in_body, .. } => return (ends, Some((fault, in_body))),
            };
            assert!(taken > 0, "it gets on");
            place += taken;
            rest = &rest[taken..];
        }
    }
    (ends, None)
}

fn heads(text: &str) -> usize {
    let (ends, refused) = read(&[text.as_bytes()]);
    assert_eq!(refused, None, "{text:?}");
    ends.len()
}

#[track_caller]
fn fault(bytes: impl AsRef<[u8]>) -> Malformed {
    let bytes = bytes.as_ref();
    let (_, refused) = read(&[bytes]);
    refused.unwrap_or_else(|| panic!("{:?} goes by", String::from_utf8_lossy(bytes))).0
}

#[test]
fn messages_of_one_reading_go_by() {
    for (text, count) in [
        ("GET / HTTP/1.1\r\n\r\n", 1),
        ("GET / HTTP/1.0\r\nhost:a\r\nx:\r\ny: \t b c\t \r\n\r\n", 1),
        ("OPTIONS * HTTP/1.1\r\n\r\nGET http://a:80/b HTTP/1.1\r\n\r\n", 2),
        ("POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n", 2),
        ("POST /a HTTP/1.1\r\nCONTENT-length:0\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
        ("POST /a HTTP/1.1\r\ncontent-length: 00003\r\n\r\nabcGET / HTTP/1.1\r\n\r\n", 2),
        (
            "POST /a HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            2,
        ),
        (
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n003;a=\"b\"\r\nabc\r\n000\r\nX: y\r\nz:\r\n\r\n\
             GET / HTTP/1.1\r\n\r\n",
            2,
        ),
        ("PRINT / HTTP/1.1\r\n\r\n", 1),
        ("PRI * HTTP/1.1\r\n\r\n", 1),
        ("P / HTTP/1.1\r\n\r\n", 1),
    ] {
        assert_eq!(heads(text), count, "{text:?}");
    }
}

#[test]
fn the_http2_preface_lets_everything_by() {
    let mut bytes = PREFACE.to_vec();
    bytes.extend_from_slice(b"\0\0\0\x04\0\0\0\0\0 anything \n\0");
    assert_eq!(read(&[&bytes]), (vec![], None));
    let mut framer = Framer::new(BOUNDS);
    assert_eq!(framer.read(&bytes[..10]), Segment::Head(10));
    assert_eq!(framer.read(&bytes[10..]), Segment::Passing(PREFACE.len() - 10));
    assert!(framer.is_framed());
    let rest = &bytes[PREFACE.len()..];
    assert_eq!(framer.read(rest), Segment::Passing(rest.len()));
    // Later it is no preface.
    assert_eq!(fault([b"GET / HTTP/1.1\r\n\r\n", PREFACE].concat()), Malformed::RequestLine);
}

#[test]
fn a_request_line_has_one_form() {
    for line in [
        "\r\nGET / HTTP/1.1",
        "\nGET / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / http/1.1",
        "GET / HTTP/01.1",
        "GET /",
        "GET",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r",
        "GE(T / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "\u{feff}GET / HTTP/1.1",
        "GET / HTTP/1.1\r\r",
        "PRI * HTTP/2.0",
    ] {
        assert_eq!(fault(format!("{line}\r\nHost: a\r\n\r\n")), Malformed::RequestLine, "{line:?}");
    }
    for (line, expected) in [
        ("GET /a#b HTTP/1.1", Malformed::Fragment),
        ("GET # HTTP/1.1", Malformed::Fragment),
        ("GET /a\0 HTTP/1.1", Malformed::ControlByte),
        ("GET /a\t HTTP/1.1", Malformed::ControlByte),
        ("GET /a\u{7f} HTTP/1.1", Malformed::ControlByte),
        ("GET /é HTTP/1.1", Malformed::RawByte),
    ] {
        assert_eq!(fault(format!("{line}\r\n\r\n")), expected, "{line:?}");
    }
}

#[test]
fn a_field_line_has_one_form() {
    for line in [
        ": empty",
        "Foo : x",
        "Foo\t: x",
        " Foo: x",
        "\tFoo: x",
        "Foo",
        "Foo\r\n: x",
        "Foo: x\r\n folded",
        "Foo: x\n",
        "Foo: a\rb",
        "Foo: a\nb",
        "Foo: a\0b",
        "Foo: a\u{7f}",
        "Foo: a\u{b}",
        "Fo(o: x",
        "Fö: x",
        "\n",
        "\r",
    ] {
        assert_eq!(fault(format!("GET / HTTP/1.1\r\n{line}\r\n\r\n")), Malformed::FieldLine, "{line:?}");
    }
    assert_eq!(heads("GET / HTTP/1.1\r\nFoo: é\r\n\r\n"), 1, "obs-text is anybody's");
}

#[test]
fn a_byte_that_no_value_has_is_found_wherever_it_stands() {
    for (byte, at) in [0, b'\r', 0x1f, 0x7f].into_iter().flat_map(|byte| (0..40).map(move |at| (byte, at))) {
        let mut value = [b'v'; 40];
        value[at] = byte;
        let head = [b"GET / HTTP/1.1\r\nFoo: ", &value[..], b"\r\n\r\n"].concat();
        assert_eq!(fault(head), Malformed::FieldLine, "{byte:#x} at {at}");
    }
    for byte in (0..=0xff).filter(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)) {
        let head = [b"GET / HTTP/1.1\r\nFoo: ", &[byte; 40][..], b"\r\n\r\n"].concat();
        assert_eq!(read(&[&head]).1, None, "{byte:#x}");
    }
}

#[test]
fn a_body_has_one_length() {
    for fields in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 1",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1\r\ncontent-length: 2",
        "Content-Length: 1, 1",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 0x1",
        "Content-Length: 1 ",
        "Content-Length:\t1",
        "Content-Length: ",
        "Content-Length: 1_0",
        "Content-Length: 99999999999999999999",
        "Content-Length: 9223372036854775808",
        "Content-Length: 1;",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\t",
        "Transfer-Encoding: chunked ",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked;a=b",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunke",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        assert_eq!(fault(format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n")), Malformed::Framing, "{fields:?}");
    }
    assert_eq!(fault("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Malformed::Framing);
    // Names that only look like it frame nothing.
    assert_eq!(heads("POST / HTTP/1.1\r\nContent-Lengthx: a\r\nTransfer-Encodin: b\r\n\r\n"), 1);
}

#[test]
fn a_chunk_has_one_form() {
    for body in [
        "\r\n",
        " 1\r\n",
        "1 \r\n",
        "0x1\r\n",
        "+1\r\n",
        "1\n",
        "1\ra",
        "g\r\n",
        "-1\r\n",
        "1\r\nab",
        "1\r\na\n",
        "1\r\na\rb",
        "1000000000000000\r\n",
        "1;a\nb\r\n",
        "1;\0\r\n",
        "1,\r\n",
        "0\r\nHost: b\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let (ends, refused) =
            read(&[format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes()]);
        assert_eq!(ends.len(), 1, "{body:?}");
        let (fault, in_body) = refused.unwrap_or_else(|| panic!("{body:?} goes by"));
        assert_eq!((fault, in_body), (Malformed::Framing, true), "{body:?}");
    }
    let (_, refused) = read(&[b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA : b\r\n\r\n"]);
    assert!(matches!(refused, Some((Malformed::FieldLine, true))), "{refused:?}");
}

#[test]
fn a_head_is_bounded() {
    let fields = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(n));
    assert_eq!(heads(&fields(8)), 1);
    assert_eq!(fault(fields(9)), Malformed::TooManyFields);
    let of = |n: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(n - 23));
    assert_eq!(of(4_096).len(), 4_096);
    assert_eq!(heads(&of(4_096)), 1);
    assert_eq!(fault(of(4_097)), Malformed::HeadTooLong);
    let trailers = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    assert_eq!(fault(format!("{trailers}{}", "a: b\r\n".repeat(9))), Malformed::TooManyFields);
    assert_eq!(fault(format!("{trailers}a: {}", "x".repeat(5_000))), Malformed::HeadTooLong);
    let wide = Bounds { bytes: 1 << 20, fields: 8 };
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(65_533));
    assert!(matches!(Framer::new(wide).read(long.as_bytes()), Segment::HeadEnd(_)));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(65_534));
    assert!(matches!(
        Framer::new(wide).read(long.as_bytes()),
        Segment::Refused { fault: Malformed::TargetTooLong, .. }
    ));
}

#[test]
fn a_target_that_is_not_odd_is_a_uri_to_the_library_too() {
    for byte in 0x21..=0x7e_u8 {
        for target in [
            format!("/a{}b", char::from(byte)),
            format!("/a?{}b", char::from(byte)),
            char::from(byte).to_string(),
        ] {
            let mut framer = Framer::new(BOUNDS);
            let whole = format!("GET {target} HTTP/1.1\r\n\r\n");
            if matches!(framer.read(whole.as_bytes()), Segment::HeadEnd(_)) && !framer.has_odd_target() {
                assert!(http::Uri::try_from(&target).is_ok(), "{target}");
            }
        }
    }
}

/// Bytes near what requests are made of.
fn near_requests() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "GET ",
        "POST ",
        "/",
        "/a",
        "*",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        "Host: a\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        "Content-Length: ",
        "Transfer-Encoding: ",
        "chunked",
        "3\r\n",
        "0\r\n",
        "\r\n\r\n",
        "abc",
        "5",
        ";x",
        ":",
        "#",
        "\0",
        "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
        "SM\r\n\r\n",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #[test]
    fn how_bytes_are_cut_makes_no_difference(bytes in near_requests(), cuts in prop::collection::vec(0..200_usize, 0..12)) {
        let whole = read(&[&bytes]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&read(&pieces), &whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&read(&single), &whole);
    }

    #[test]
    fn a_head_that_goes_by_is_one_to_another_parser_too(bytes in near_requests()) {
        let (ends, _) = read(&[&bytes]);
        if let Some(end) = ends.first() {
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let mut request = httparse::Request::new(&mut headers);
            let parsed = request.parse(&bytes).unwrap();
            prop_assert_eq!(parsed, httparse::Status::Complete(*end));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&[&bytes]);
    }
}
