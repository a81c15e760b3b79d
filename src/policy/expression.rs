//! A matcher as a tree, where it is of the plain shape that most have: `&&` and `||` over comparisons, roles and
//! patterns. Such a matcher has an answer for every request: nothing in it can fail.

use super::Policy;
use super::asking::Tables;
use super::decide::{EvaluationError, Question};
use super::error::Problem;
use super::matcher::{Token, tokens};
use super::model::{ModelText, RequestName};
use super::patterns::{Answer, Function};
use super::roles::Overlay;
use super::rows::Row;

/// A matcher, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// All of these hold: `&&`.
    All(Vec<Expression>),
    /// One of these holds: `||`.
    Any(Vec<Expression>),
    /// This holds.
    Test(Test),
}

/// The smallest thing that holds or does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// `a == b`.
    Equal(Term, Term),
    /// `g(from, to)` or `g(from, to, domain)`.
    Linked {
        /// Which role definition, by position.
        definition: usize,
        /// Who should have the role.
        from: Term,
        /// The role.
        to: Term,
        /// Where, if the definition has domains.
        domain: Option<Term>,
    },
    /// `function(value, pattern)`.
    Matches {
        /// One that answers yes or no.
        function: Function,
        /// What is matched.
        value: Term,
        /// What it is matched with.
        pattern: Term,
    },
}

/// What is tested.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// A value of the request.
    Request(RequestName),
    /// A column of the row, by index.
    Column(usize),
    /// A string that stands in the matcher.
    Literal(String),
}

impl Expression {
    /// The matcher of `model` as a tree; `None` if it is of another shape, or if something in it might have no
    /// answer.
    ///
    /// # Errors
    /// If the matcher is not even made of tokens.
    pub fn read(model: &ModelText) -> Result<Option<Self>, Problem> {
        let tokens: Vec<Token> = tokens(&model.matcher)?.into_iter().map(|(token, _)| token).collect();
        let mut reader = Reader { model, tokens: &tokens };
        Ok(reader.any().filter(|_| reader.tokens.is_empty()))
    }

    /// Calls `visit` with every test, from left to right.
    pub fn for_each_test<'a>(&'a self, visit: &mut impl FnMut(&'a Test)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.for_each_test(visit)),
            Self::Test(test) => visit(test),
        }
    }
}

/// What has not been read yet.
struct Reader<'a> {
    model: &'a ModelText,
    tokens: &'a [Token],
}

impl Reader<'_> {
    fn any(&mut self) -> Option<Expression> {
        self.chain("||", Self::all, Expression::Any)
    }

    fn all(&mut self) -> Option<Expression> {
        self.chain("&&", Self::one, Expression::All)
    }

    fn chain(
        &mut self,
        sign: &str,
        mut part: impl FnMut(&mut Self) -> Option<Expression>,
        whole: impl FnOnce(Vec<Expression>) -> Expression,
    ) -> Option<Expression> {
        let first = part(self)?;
        let mut parts = vec![first];
        while self.take(sign) {
            parts.push(part(self)?);
        }
        if parts.len() == 1 { parts.pop() } else { Some(whole(parts)) }
    }

    fn one(&mut self) -> Option<Expression> {
        if self.take("(") {
            let inner = self.any()?;
            return self.take(")").then_some(inner);
        }
        let test = match self.tokens {
            [Token::Name(name), Token::Sign("("), ..] => {
                let name = name.clone();
                self.tokens = self.tokens.get(2..)?;
                let arguments = self.arguments()?;
                self.call(&name, arguments)?
            }
            _ => {
                let left = self.term()?;
                let right = self.take("==").then(|| self.term())??;
                // What comes after could bind tighter than the comparison.
                Test::Equal(left, right)
            }
        };
        let ends = matches!(self.tokens.first(), None | Some(Token::Sign("&&" | "||" | ")")));
        ends.then_some(Expression::Test(test))
    }

    fn arguments(&mut self) -> Option<Vec<Term>> {
        let mut arguments = vec![self.term()?];
        while self.take(",") {
            arguments.push(self.term()?);
        }
        self.take(")").then_some(arguments)
    }

    fn call(&self, name: &str, arguments: Vec<Term>) -> Option<Test> {
        if let Some(definition) = self.model.roles.iter().position(|roles| roles.name == name) {
            let in_domains = self.model.roles.get(definition)?.in_domains;
            let mut arguments = arguments.into_iter();
            let (from, to, domain) = (arguments.next()?, arguments.next()?, arguments.next());
            let right = arguments.next().is_none() && domain.is_some() == in_domains;
            return right.then_some(Test::Linked { definition, from, to, domain });
        }
        let function = Function::parse(name)?;
        let [value, pattern] = <[Term; 2]>::try_from(arguments).ok()?;
        // A part is no answer, and ipMatch has none for what is no address.
        let answers = match function {
            Function::KeyGet | Function::KeyGet2 | Function::KeyGet3 => false,
            Function::IpMatch => value == Term::Request(RequestName::Ip),
            Function::KeyMatch
            | Function::KeyMatch2
            | Function::KeyMatch3
            | Function::KeyMatch4
            | Function::KeyMatch5
            | Function::RegexMatch
            | Function::GlobMatch => true,
        };
        // Those of columns and literals are compiled at load, where a value by name is matched with them.
        let compiled = !matches!(pattern, Term::Request(_)) && !matches!(value, Term::Literal(_));
        (answers && compiled).then_some(Test::Matches { function, value, pattern })
    }

    fn term(&mut self) -> Option<Term> {
        let (first, rest) = self.tokens.split_first()?;
        let term = match first {
            Token::Text(text) => Term::Literal(text.clone()),
            Token::Name(name) => {
                let (kind, name) = name.split_at_checked(2)?;
                match kind {
                    "r." | "r_" => Term::Request(
                        self.model.request.iter().copied().find(|known| known.as_str() == name)?,
                    ),
                    "p." | "p_" => Term::Column(self.model.columns.iter().position(|column| column == name)?),
                    _ => return None,
                }
            }
            Token::Number | Token::Sign(_) | Token::Odd => return None,
        };
        self.tokens = rest;
        Some(term)
    }

    fn take(&mut self, sign: &str) -> bool {
        match self.tokens.split_first() {
            Some((Token::Sign(first), rest)) if *first == sign => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }
}

impl Term {
    /// Its value for `question` and `row`, given to `with`. A column that the row lacks is empty.
    pub fn with<T>(&self, row: &Row, question: &Question<'_>, with: impl FnOnce(&str) -> T) -> T {
        match self {
            Self::Request(name) => question.with(*name, with),
            Self::Column(column) => with(row.fields.get(*column).map_or("", String::as_str)),
            Self::Literal(text) => with(text),
        }
    }
}

impl Policy {
    /// Whether `expression` holds for `row` and `question`, looked at part by part.
    ///
    /// # Errors
    /// As [`Policy::holds`].
    pub fn satisfies(
        &self,
        expression: &Expression,
        row: &Row,
        question: &Question<'_>,
    ) -> Result<bool, EvaluationError> {
        let holds = |part: &Expression| self.satisfies(part, row, question);
        match expression {
            Expression::All(parts) => parts.iter().try_fold(true, |so_far, part| Ok(so_far && holds(part)?)),
            Expression::Any(parts) => parts.iter().try_fold(false, |so_far, part| Ok(so_far || holds(part)?)),
            Expression::Test(test) => self.holds(test, row, question),
        }
    }

    /// Whether `test` holds for `row` and `question`.
    ///
    /// # Errors
    /// A pattern that is not one of this policy's and does not compile, or a value that it cannot be matched with.
    pub fn holds(&self, test: &Test, row: &Row, question: &Question<'_>) -> Result<bool, EvaluationError> {
        self.tables.holds(test, row, question)
    }
}

impl Tables {
    /// As [`Policy::holds`].
    pub(super) fn holds(
        &self,
        test: &Test,
        row: &Row,
        question: &Question<'_>,
    ) -> Result<bool, EvaluationError> {
        let both = |left: &Term, right: &Term, with: &mut dyn FnMut(&str, &str)| {
            left.with(row, question, |left| right.with(row, question, |right| with(left, right)));
        };
        let mut answer = Ok(false);
        match test {
            Test::Equal(left, right) => both(left, right, &mut |left, right| answer = Ok(left == right)),
            Test::Linked { definition, from, to, domain } => {
                let Some(graph) = self.roles.get(*definition) else { return answer };
                let reaches = |from: &str, to: &str, domain: Option<&str>| {
                    let overlay = Overlay::of(*definition, domain, question);
                    graph.reaches(from, to, domain.unwrap_or_default(), overlay)
                };
                both(from, to, &mut |from, to| {
                    answer = Ok(match domain {
                        None => reaches(from, to, None),
                        Some(domain) => domain.with(row, question, |domain| reaches(from, to, Some(domain))),
                    });
                });
            }
            Test::Matches { function, value, pattern } => both(value, pattern, &mut |value, pattern| {
                answer = match self.patterns.call(*function, value, pattern, "") {
                    Ok(Answer::Matches(matches)) => Ok(matches),
                    Ok(Answer::Part(part)) => Ok(!part.is_empty()),
                    Err(source) => Err(EvaluationError::Pattern { function: *function, source }),
                };
            }),
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Text;

    fn read(matcher: &str) -> Option<Expression> {
        let text = format!(
            "[request_definition]\nr = sub, dom, obj, act, ip\n[policy_definition]\np = sub, dom, obj, act\n\
             [role_definition]\ng = _, _\ng2 = _, _, _\n[policy_effect]\ne = some(where (p.eft == allow))\n\
             [matchers]\nm = {matcher}\n"
        );
        let model = ModelText::read(&Text { name: "model.conf".into(), text }).unwrap();
        Expression::read(&model).unwrap()
    }

    #[test]
    fn and_binds_tighter_than_or() {
        let equal = |name, column| Expression::Test(Test::Equal(Term::Request(name), Term::Column(column)));
        let [sub, obj, act] =
            [equal(RequestName::Sub, 0), equal(RequestName::Obj, 2), equal(RequestName::Act, 3)];
        let (first, rest) = (sub.clone(), Expression::All(vec![obj.clone(), act.clone()]));
        let whole = Expression::Any(vec![first, rest]);
        assert_eq!(read("r.sub == p.sub || r.obj == p.obj && r.act == p.act"), Some(whole));
        let bracketed = Expression::All(vec![Expression::Any(vec![sub, obj]), act]);
        assert_eq!(read("(r.sub == p.sub || r.obj == p.obj) && (r_act == p_act)"), Some(bracketed));
    }

    #[test]
    fn what_might_have_no_answer_or_another_shape_is_left_to_casbin() {
        for matcher in [
            "!(r.sub == p.sub)",
            "r.sub != p.sub",
            "r.sub == p.sub == true",
            "r.sub == p.sub && true",
            "r.sub in [p.sub]",
            "keyMatch(r.obj, p.obj) == true",
            "keyGet(r.obj, p.obj) == \"x\"",
            "keyGet(r.obj, p.obj)",
            "keyMatch(p.obj, r.obj)",
            "keyMatch(\"/a\", p.obj)",
            "ipMatch(r.obj, p.obj)",
            "r.sub == p.sub + p.dom",
            "r.sub == 'x'",
            "r.sub == \"a\\n\"",
            "g(r.sub, p.sub, r.dom)",
            "g2(r.sub, p.sub)",
            "h(r.sub)",
            "r.sub",
        ] {
            assert_eq!(read(matcher), None, "{matcher}");
        }
        for matcher in
            ["g(r.sub, p.sub)", "g2(r.obj, p.obj, r.dom)", "ipMatch(r.ip, p.obj)", "r.sub == \"root\""]
        {
            assert!(read(matcher).is_some(), "{matcher}");
        }
    }
}
