//! What a matcher does with its names, as far as its tokens show.
//!
//! This is no parser: casbin is the one that evaluates. It finds the calls, the names and the plain comparisons in an
//! expression, so that patterns can be compiled at load and mistakes named with their place; where it cannot see
//! through an expression, it draws no conclusion.

use super::error::Problem;
use super::model::{ModelText, RequestName};
use super::patterns::Function;

/// The longest expression that is evaluated, in bytes.
const MOST_BYTES: usize = 16 * 1024;
/// The deepest nesting, counting brackets, and signs and negations in a row. casbin's evaluator recurses without a
/// bound of its own, and an overflowing stack would end the process.
const MOST_DEPTH: usize = 48;
/// The most operators in a row, for the same reason.
const MOST_OPERATORS: usize = 512;

/// A matcher, looked at.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// Every call of a function by name, in order.
    pub calls: Vec<Call>,
    /// What each mention of a column does with it: the column's index, and the use.
    pub uses: Vec<(usize, Use)>,
    /// The columns that are evaluated as expressions.
    pub evaluated: Vec<usize>,
    /// Whether it is only `&&` and `||` over comparisons and calls, so that a row all of whose comparisons with the
    /// path fail can be neither allowed nor denied by one of those.
    pub plain: bool,
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The function's name.
    pub name: String,
    /// The call's own text.
    pub text: String,
    /// What is matched, if it is a request name.
    pub value: Option<RequestName>,
    /// The second argument.
    pub pattern: Operand,
}

/// An operand, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A column of p, by index.
    Column(usize),
    /// A string as written.
    Literal(String),
    /// Something else, or nothing.
    Other,
}

/// What a mention of a column does with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Compared with a value of the request.
    Equal(RequestName),
    /// Compared with a string.
    Literal(String),
    /// The pattern that a function matches a value of the request with.
    Pattern(Function, RequestName),
    /// Anything else.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, `r.x` and `p.x` being one.
    Name(String),
    Text(String),
    Number,
    /// An operator or bracket.
    Sign(&'static str),
    /// What has no place in a plain matcher.
    Odd,
}

/// Longest first.
const SIGNS: [&str; 27] = [
    "==", "!=", "<=", ">=", "&&", "||", "(", ")", "[", "]", "{", "}", ",", "!", "<", ">", "+", "-", "*", "/",
    "%", ".", ":", ";", "?", "&", "|",
];

impl Matcher {
    /// Looks at the matcher of `model`.
    ///
    /// # Errors
    /// An expression that is too long or deep, unclosed, or that names what the model does not define.
    pub fn read(model: &ModelText) -> Result<Self, Problem> {
        let tokens = tokens(&model.matcher)?;
        bounded(&model.matcher, &tokens)?;
        let column = |name: &str| {
            let name = name.strip_prefix("p.").or_else(|| name.strip_prefix("p_"))?;
            model.columns.iter().position(|column| column == name)
        };
        let request = |name: &str| {
            let name = name.strip_prefix("r.").or_else(|| name.strip_prefix("r_"))?;
            model.request.iter().copied().find(|known| known.as_str() == name)
        };
        known_names(model, &tokens, column, request)?;
        let mut matcher = Self { plain: is_plain(&tokens), ..Self::default() };
        for (at, (token, _)) in tokens.iter().enumerate() {
            let Token::Name(name) = token else { continue };
            if sign(&tokens, at + 1) == Some("(") {
                let call = call(&model.matcher, &tokens, at, column, request);
                if call.name == "eval" {
                    matcher.evaluated.push(evaluated_column(&tokens, at, column)?);
                } else {
                    matcher.calls.push(call);
                }
            } else if let Some(index) = column(name) {
                matcher.uses.push((index, use_of(&tokens, at, request)));
            }
        }
        Ok(matcher)
    }
}

/// Checks an expression that stands in a row and is evaluated: it must be one plain expression.
///
/// # Errors
/// Why it must not be evaluated.
pub fn evaluable(expression: &str) -> Result<(), Problem> {
    let tokens = tokens(expression)?;
    bounded(expression, &tokens)?;
    for (token, _) in &tokens {
        match token {
            // Blocks and statements could loop; another evaluation could recurse.
            Token::Sign(sign @ ("{" | "}" | ";")) => {
                return Err(Problem::NotAnExpression((*sign).to_owned()));
            }
            Token::Name(name)
                if matches!(name.as_str(), "eval" | "while" | "loop" | "for" | "do" | "let" | "Fn") =>
            {
                return Err(Problem::NotAnExpression(name.clone()));
            }
            Token::Name(_) | Token::Text(_) | Token::Number | Token::Sign(_) | Token::Odd => {}
        }
    }
    Ok(())
}

type Tokens = [(Token, usize)];

/// The tokens of an expression, each with the byte it begins at.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, Problem> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let (token, length) = token(rest)?;
        if let Some(token) = token {
            tokens.push((token, at));
        }
        at += length;
    }
    Ok(tokens)
}

/// The first token of `rest`, if it is not blank, and its length.
fn token(rest: &str) -> Result<(Option<Token>, usize), Problem> {
    let Some(first) = rest.chars().next() else { return Ok((None, 0)) };
    if first.is_whitespace() {
        return Ok((None, first.len_utf8()));
    }
    if matches!(first, '"' | '\'' | '`') {
        let length = string_length(rest, first).ok_or(Problem::Unclosed("string"))?;
        let inside = rest.get(1..length - 1).unwrap_or_default();
        // Escapes are the evaluator's affair; a string that has any is opaque here.
        let opaque = first != '"' || inside.contains('\\');
        return Ok((Some(if opaque { Token::Odd } else { Token::Text(inside.to_owned()) }), length));
    }
    if first.is_ascii_digit() {
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        return Ok((Some(Token::Number), length));
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let length = name_length(rest);
        return Ok((rest.get(..length).map(|name| Token::Name(name.to_owned())), length));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) => Ok((Some(Token::Sign(sign)), sign.len())),
        None => Ok((Some(Token::Odd), first.len_utf8())),
    }
}

/// The length of a name; `r.x` and `p.x` are one name, as casbin makes them one.
fn name_length(rest: &str) -> usize {
    let word =
        |text: &str| text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let length = word(rest);
    match rest.get(..length) {
        Some("r" | "p") => match rest.get(length..).and_then(|after| after.strip_prefix('.')) {
            Some(after) => length + 1 + word(after),
            None => length,
        },
        _ => length,
    }
}

fn string_length(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != '`' {
            escaped = true;
        } else if c == quote {
            return Some(at + 1);
        }
    }
    None
}

/// Checks that an expression is neither too long, too deep, nor too busy.
fn bounded(text: &str, tokens: &Tokens) -> Result<(), Problem> {
    if text.len() > MOST_BYTES {
        return Err(Problem::TooComplex("too many bytes", MOST_BYTES));
    }
    let (mut depth, mut prefixes, mut operators) = (0usize, 0usize, 0usize);
    for (token, _) in tokens {
        match token {
            Token::Sign("(" | "[" | "{") => depth += 1,
            Token::Sign(")" | "]" | "}") => {
                depth = depth.checked_sub(1).ok_or(Problem::Unclosed("bracket"))?
            }
            Token::Sign(",") => {}
            Token::Sign(_) => operators += 1,
            Token::Name(_) | Token::Text(_) | Token::Number | Token::Odd => {}
        }
        prefixes = if matches!(token, Token::Sign("!" | "-" | "+")) { prefixes + 1 } else { 0 };
        if depth + prefixes > MOST_DEPTH {
            return Err(Problem::TooComplex("too many levels", MOST_DEPTH));
        }
    }
    if operators > MOST_OPERATORS {
        return Err(Problem::TooComplex("too many operators", MOST_OPERATORS));
    }
    if depth > 0 { Err(Problem::Unclosed("bracket")) } else { Ok(()) }
}

fn known_names(
    model: &ModelText,
    tokens: &Tokens,
    column: impl Fn(&str) -> Option<usize>,
    request: impl Fn(&str) -> Option<RequestName>,
) -> Result<(), Problem> {
    for (token, _) in tokens {
        let Token::Name(name) = token else { continue };
        let of = |prefix: char| {
            let mut chars = name.chars();
            chars.next() == Some(prefix) && matches!(chars.next(), Some('.' | '_'))
        };
        if of('r') && request(name).is_none() {
            let known: Vec<String> =
                model.request.iter().map(|known| format!("r.{}", known.as_str())).collect();
            return Err(Problem::UnknownName(name.clone(), known.join(", ")));
        }
        if of('p') && column(name).is_none() {
            let known: Vec<String> = model.columns.iter().map(|known| format!("p.{known}")).collect();
            return Err(Problem::UnknownName(name.clone(), known.join(", ")));
        }
    }
    Ok(())
}

fn is_plain(tokens: &Tokens) -> bool {
    tokens.iter().enumerate().all(|(at, (token, _))| match token {
        Token::Name(name) => !matches!(name.as_str(), "true" | "false" | "eval" | "in" | "if" | "switch"),
        Token::Text(_) => true,
        Token::Sign("==") => {
            // A comparison with the outcome of a call or of a bracketed expression could turn it around.
            sign(tokens, at.wrapping_sub(1)) != Some(")")
                && !matches!(sign(tokens, at + 1), Some("("))
                && sign(tokens, at + 2) != Some("(")
        }
        Token::Sign(sign) => matches!(*sign, "&&" | "||" | "(" | ")" | ","),
        Token::Number | Token::Odd => false,
    })
}

fn sign(tokens: &Tokens, at: usize) -> Option<&'static str> {
    match tokens.get(at) {
        Some((Token::Sign(sign), _)) => Some(sign),
        _ => None,
    }
}

/// The call whose name is at `at`.
fn call(
    text: &str,
    tokens: &Tokens,
    at: usize,
    column: impl Fn(&str) -> Option<usize>,
    request: impl Fn(&str) -> Option<RequestName>,
) -> Call {
    let name = match tokens.get(at) {
        Some((Token::Name(name), _)) => name.clone(),
        _ => String::new(),
    };
    let start = tokens.get(at).map_or(0, |(_, start)| *start);
    let end =
        closing(tokens, at + 1).and_then(|close| tokens.get(close)).map_or(text.len(), |(_, at)| at + 1);
    let (value, pattern) =
        match (tokens.get(at + 2), sign(tokens, at + 3), tokens.get(at + 4), sign(tokens, at + 5)) {
            (Some((Token::Name(value), _)), Some(","), Some((pattern, _)), Some("," | ")")) => (
                request(value),
                match pattern {
                    Token::Name(name) => column(name).map_or(Operand::Other, Operand::Column),
                    Token::Text(text) => Operand::Literal(text.clone()),
                    Token::Number | Token::Sign(_) | Token::Odd => Operand::Other,
                },
            ),
            _ => (None, Operand::Other),
        };
    Call { name, text: text.get(start..end).unwrap_or_default().to_owned(), value, pattern }
}

/// The index of the bracket that closes the one at `open`.
fn closing(tokens: &Tokens, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for at in open..tokens.len() {
        match sign(tokens, at) {
            Some("(") => depth += 1,
            Some(")") => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn evaluated_column(
    tokens: &Tokens,
    at: usize,
    column: impl Fn(&str) -> Option<usize>,
) -> Result<usize, Problem> {
    match (tokens.get(at + 2), sign(tokens, at + 3)) {
        (Some((Token::Name(name), _)), Some(")")) => column(name).ok_or(Problem::EvalArgument),
        _ => Err(Problem::EvalArgument),
    }
}

/// What the mention of a column at `at` does with it.
fn use_of(tokens: &Tokens, at: usize, request: impl Fn(&str) -> Option<RequestName>) -> Use {
    let before = at.checked_sub(1).and_then(|before| sign(tokens, before));
    let other = match (before, sign(tokens, at + 1)) {
        (Some(","), Some(")" | ",")) => return pattern_use(tokens, at, request),
        (before, Some("==")) if outside(before, at == 0) => {
            (tokens.get(at + 2), outside(sign(tokens, at + 3), at + 3 >= tokens.len()))
        }
        (Some("=="), after) if outside(after, at + 1 >= tokens.len()) => match at.checked_sub(2) {
            Some(first) => {
                let edge = first.checked_sub(1).and_then(|edge| sign(tokens, edge));
                (tokens.get(first), outside(edge, first == 0))
            }
            None => (None, false),
        },
        _ => (None, false),
    };
    match other {
        (Some((Token::Name(name), _)), true) => request(name).map_or(Use::Other, Use::Equal),
        (Some((Token::Text(text), _)), true) => Use::Literal(text.clone()),
        _ => Use::Other,
    }
}

/// Whether a comparison ends at this sign, or at an end of the expression.
fn outside(sign: Option<&'static str>, at_end: bool) -> bool {
    at_end || matches!(sign, Some("(" | ")" | "&&" | "||"))
}

/// The use of a column that is the second argument of a call.
fn pattern_use(tokens: &Tokens, at: usize, request: impl Fn(&str) -> Option<RequestName>) -> Use {
    let names =
        (at.checked_sub(4).and_then(|name| tokens.get(name)), at.checked_sub(2).and_then(|v| tokens.get(v)));
    let opens = at.checked_sub(3).and_then(|open| sign(tokens, open)) == Some("(");
    match names {
        (Some((Token::Name(function), _)), Some((Token::Name(value), _))) if opens => {
            match (Function::parse(function), request(value)) {
                (Some(function), Some(value)) => Use::Pattern(function, value),
                _ => Use::Other,
            }
        }
        _ => Use::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::load::Text;

    fn model(matcher: &str) -> ModelText {
        let text = format!(
            "[request_definition]\nr = sub, dom, obj, act, ip\n[policy_definition]\np = sub, obj, act, eft\n\
             [role_definition]\ng = _, _\n[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\n\
             m = {matcher}\n"
        );
        ModelText::read(&Text { name: "model.conf".into(), text }).unwrap()
    }

    fn read(matcher: &str) -> Result<Matcher, Problem> {
        Matcher::read(&model(matcher))
    }

    #[test]
    fn uses_of_columns_are_told_apart() {
        let obj = |use_: Use| (1, use_);
        for (matcher, expected) in [
            ("r.obj == p.obj", vec![obj(Use::Equal(RequestName::Obj))]),
            ("p.obj == r.obj && true", vec![obj(Use::Equal(RequestName::Obj))]),
            ("(r.obj == p.obj)", vec![obj(Use::Equal(RequestName::Obj))]),
            ("r_obj == p_obj", vec![obj(Use::Equal(RequestName::Obj))]),
            ("p.obj == \"*\"", vec![obj(Use::Literal("*".into()))]),
            ("\"*\" == p.obj", vec![obj(Use::Literal("*".into()))]),
            ("keyMatch2(r.obj, p.obj)", vec![obj(Use::Pattern(Function::KeyMatch2, RequestName::Obj))]),
            ("keyMatch2(p.obj, r.obj)", vec![obj(Use::Other)]),
            ("mine(r.obj, p.obj)", vec![obj(Use::Other)]),
            ("r.obj == p.obj + \"x\"", vec![obj(Use::Other)]),
            ("r.obj != p.obj", vec![obj(Use::Other)]),
            ("r.obj + \"x\" == p.obj", vec![obj(Use::Other)]),
        ] {
            assert_eq!(read(matcher).unwrap().uses, expected, "{matcher}");
        }
    }

    #[test]
    fn calls_are_found_with_their_text_and_pattern() {
        let matcher =
            read("g(r.sub, p.sub) && ipMatch(r.ip, \"10.0.0.0/8\") && keyMatch(keyGet(r.obj, p.obj), \"a\")")
                .unwrap();
        let calls: Vec<(&str, &Operand)> =
            matcher.calls.iter().map(|call| (call.text.as_str(), &call.pattern)).collect();
        assert_eq!(
            calls,
            [
                ("g(r.sub, p.sub)", &Operand::Column(0)),
                ("ipMatch(r.ip, \"10.0.0.0/8\")", &Operand::Literal("10.0.0.0/8".into())),
                ("keyMatch(keyGet(r.obj, p.obj), \"a\")", &Operand::Other),
                ("keyGet(r.obj, p.obj)", &Operand::Column(1)),
            ]
        );
    }

    #[test]
    fn only_conjunctions_and_alternatives_are_plain() {
        for (matcher, plain) in [
            ("g(r.sub, p.sub) && (r.obj == p.obj || keyMatch(r.obj, p.obj))", true),
            ("!(r.obj == p.obj)", false),
            ("r.obj != p.obj", false),
            ("keyMatch(r.obj, p.obj) == false", false),
            ("false == keyMatch(r.obj, p.obj)", false),
            ("keyMatch(r.obj, p.obj) == keyMatch(r.sub, p.sub)", false),
            ("p.obj == keyGet(r.obj, p.obj)", false),
            ("(r.obj == p.obj) == (r.act == p.act)", false),
            ("r.obj in [p.obj]", false),
        ] {
            assert_eq!(read(matcher).unwrap().plain, plain, "{matcher}");
        }
    }

    #[test]
    fn mistakes_and_dangers_are_named() {
        let deep = format!("{}true{}", "(".repeat(MOST_DEPTH + 1), ")".repeat(MOST_DEPTH + 1));
        let busy = format!("true{}", " && true".repeat(MOST_OPERATORS + 1));
        for (matcher, expected) in [
            ("r.uid == p.sub", "`r.uid`"),
            ("r.sub == p.uid", "`p.uid`"),
            ("r.sub == \"a", "unclosed string"),
            ("(r.sub == p.sub", "unclosed bracket"),
            ("r.sub == p.sub)", "unclosed bracket"),
            ("eval(r.obj)", "eval takes one column"),
            ("eval(\"true\")", "eval takes one column"),
            ("eval(p.sub + r.sub)", "eval takes one column"),
            (&deep, "too many levels"),
            (&format!("{}true", "!".repeat(MOST_DEPTH + 1)), "too many levels"),
            (&busy, "too many operators"),
        ] {
            let error = read(matcher).unwrap_err().to_string();
            assert!(error.contains(expected), "{matcher}: {error}");
        }
        assert_eq!(read("eval(p.obj)").unwrap().evaluated, [1]);
        for expression in ["loop {}", "true; true", "eval(\"1\")", "while true {}"] {
            assert!(evaluable(expression).is_err(), "{expression}");
        }
        assert!(evaluable("r.sub == \"{;}\" && r.act == \"GET\"").is_ok());
    }
}
