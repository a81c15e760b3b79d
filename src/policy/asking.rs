//! What one evaluation inside casbin sees and leaves behind.
//!
//! casbin-rs takes matcher functions as plain `fn` pointers and hands its effector no context, so both reach the
//! question through a thread-local that [`ask`] sets for the time of one evaluation and clears even when that
//! evaluation panics. Nothing is shared between threads but the immutable [`Tables`].

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use casbin::function_map::{OperatorFunction, dynamic_to_str};
use casbin::rhai::Dynamic;
use casbin::{CoreApi, DefaultEffector, EffectKind, Effector, EffectorStream, Enforcer};

use super::decide::{EvaluationError, Question};
use super::model::RoleDefinition;
use super::patterns::{Answer, Function, Patterns};
use super::roles::{Overlay, RoleGraph};

/// How many role definitions a model may have: each needs `fn`s of its own.
pub const ROLE_DEFINITIONS: usize = 8;

/// What the functions of a policy look things up in.
#[derive(Debug, Default)]
pub struct Tables {
    /// Compiled patterns.
    pub patterns: Patterns,
    /// A graph for each role definition, in order.
    pub roles: Vec<RoleGraph>,
}

/// What an evaluation left behind.
#[derive(Debug, Default)]
pub struct Trace {
    /// The position of the first row that allowed.
    pub allowed_by: Option<usize>,
    /// The position of the row that denied.
    pub denied_by: Option<usize>,
    /// The first function that had no answer.
    pub fault: Option<EvaluationError>,
}

struct Frame {
    tables: Arc<Tables>,
    user: String,
    roles: Vec<String>,
    service: String,
    trace: Trace,
}

thread_local! {
    static FRAME: RefCell<Option<Frame>> = const { RefCell::new(None) };
}

/// Runs `evaluate` with `question` and `tables` in sight of this thread's functions and effector. `None` in place of
/// its result if it panicked.
pub fn ask<T>(
    tables: &Arc<Tables>,
    question: &Question<'_>,
    evaluate: impl FnOnce() -> T,
) -> (Option<T>, Trace) {
    FRAME.set(Some(Frame {
        tables: Arc::clone(tables),
        user: question.user.to_owned(),
        roles: question.roles.to_vec(),
        service: question.service.to_owned(),
        trace: Trace::default(),
    }));
    // What a panic may have left half done is the frame, which is taken away here, and casbin's own evaluation
    // state, which dies with the call; the enforcer itself is not mutable through `&`.
    let result = catch_unwind(AssertUnwindSafe(evaluate)).ok();
    let trace = FRAME.take().map(|frame| frame.trace).unwrap_or_default();
    (result, trace)
}

/// Gives `enforcer` our pattern functions and effector, and a function for each role definition. The enforcer's model
/// must not define roles itself, or casbin's functions would go before these.
pub fn equip(enforcer: &mut Enforcer, roles: &[RoleDefinition]) {
    for function in Function::ALL {
        enforcer.add_function(function.as_str(), pattern_function(function));
    }
    let links = [
        role_functions::<0>(),
        role_functions::<1>(),
        role_functions::<2>(),
        role_functions::<3>(),
        role_functions::<4>(),
        role_functions::<5>(),
        role_functions::<6>(),
        role_functions::<7>(),
    ];
    const { assert!(ROLE_DEFINITIONS == 8) };
    for (definition, (plain, in_domain)) in roles.iter().zip(links) {
        enforcer.add_function(&definition.name, if definition.in_domains { in_domain } else { plain });
    }
    enforcer.set_effector(Box::new(TracingEffector));
}

fn pattern_function(function: Function) -> OperatorFunction {
    use Function as F;
    macro_rules! two {
        ($function:expr) => {
            OperatorFunction::Arg2(|value, pattern| call($function, &value, &pattern, None))
        };
    }
    macro_rules! three {
        ($function:expr) => {
            OperatorFunction::Arg3(|value, pattern, name| call($function, &value, &pattern, Some(&name)))
        };
    }
    match function {
        F::KeyMatch => two!(F::KeyMatch),
        F::KeyMatch2 => two!(F::KeyMatch2),
        F::KeyMatch3 => two!(F::KeyMatch3),
        F::KeyMatch4 => two!(F::KeyMatch4),
        F::KeyMatch5 => two!(F::KeyMatch5),
        F::KeyGet => two!(F::KeyGet),
        F::KeyGet2 => three!(F::KeyGet2),
        F::KeyGet3 => three!(F::KeyGet3),
        F::RegexMatch => two!(F::RegexMatch),
        F::GlobMatch => two!(F::GlobMatch),
        F::IpMatch => two!(F::IpMatch),
    }
}

/// Calls a pattern function. Where it has no answer, the fault is noted, which fails the whole evaluation, so the
/// value returned meanwhile does not matter.
fn call(function: Function, value: &Dynamic, pattern: &Dynamic, name: Option<&Dynamic>) -> Dynamic {
    let (value, pattern) = (dynamic_to_str(value), dynamic_to_str(pattern));
    let name = name.map(dynamic_to_str).unwrap_or_default();
    FRAME.with_borrow_mut(|frame| {
        let Some(frame) = frame else { return Dynamic::UNIT };
        match frame.tables.patterns.call(function, &value, &pattern, &name) {
            Ok(Answer::Matches(matches)) => matches.into(),
            Ok(Answer::Part(part)) => part.into(),
            Err(source) => frame.fail(EvaluationError::Pattern { function, source }),
        }
    })
}

impl Frame {
    fn fail(&mut self, error: EvaluationError) -> Dynamic {
        self.trace.fault.get_or_insert(error);
        Dynamic::UNIT
    }
}

fn role_functions<const AT: usize>() -> (OperatorFunction, OperatorFunction) {
    (
        OperatorFunction::Arg2(|from, to| linked(AT, &from, &to, None)),
        OperatorFunction::Arg3(|from, to, domain| linked(AT, &from, &to, Some(&domain))),
    )
}

/// Whether `from` has the role `to`.
fn linked(at: usize, from: &Dynamic, to: &Dynamic, domain: Option<&Dynamic>) -> Dynamic {
    FRAME.with_borrow_mut(|frame| {
        let Some(frame) = frame else { return Dynamic::UNIT };
        if !(from.is_string() && to.is_string() && domain.is_none_or(Dynamic::is_string)) {
            return frame.fail(EvaluationError::RoleOfNoName);
        }
        let (from, to) = (dynamic_to_str(from), dynamic_to_str(to));
        let domain = domain.map(dynamic_to_str);
        let Some(graph) = frame.tables.roles.get(at) else { return Dynamic::UNIT };
        let holds = Overlay::holds(at, domain.as_deref(), &frame.service);
        let overlay = holds.then_some(Overlay { user: &frame.user, roles: &frame.roles });
        graph.reaches(&from, &to, domain.as_deref().unwrap_or_default(), overlay).into()
    })
}

/// casbin's own effector, with a note of which row decided.
struct TracingEffector;

impl Effector for TracingEffector {
    fn new_stream(&self, expression: &str, rows: usize) -> Box<dyn EffectorStream> {
        Box::new(TracingStream { inner: DefaultEffector.new_stream(expression, rows), next_row: 0 })
    }
}

struct TracingStream {
    inner: Box<dyn EffectorStream>,
    next_row: usize,
}

impl EffectorStream for TracingStream {
    fn next(&self) -> bool {
        self.inner.next()
    }

    fn push_effect(&mut self, effect: EffectKind) -> bool {
        let row = self.next_row;
        self.next_row += 1;
        if effect != EffectKind::Indeterminate {
            FRAME.with_borrow_mut(|frame| {
                let Some(frame) = frame else { return };
                let slot = match effect {
                    EffectKind::Allow => &mut frame.trace.allowed_by,
                    EffectKind::Deny => &mut frame.trace.denied_by,
                    EffectKind::Indeterminate => return,
                };
                slot.get_or_insert(row);
            });
        }
        self.inner.push_effect(effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn a_panic_is_caught_and_leaves_nothing_for_the_next_question() {
        let tables = Arc::new(Tables::default());
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let question =
            Question { user: "u", roles: &[], service: "s", path: "/", method: "GET", host: "", ip };
        let (result, _) = ask(&tables, &question, || -> bool {
            FRAME.with_borrow_mut(|frame| {
                frame.as_mut().unwrap().trace.allowed_by = Some(7);
                panic!("on purpose");
            })
        });
        assert!(result.is_none());
        assert!(FRAME.with_borrow(Option::is_none));
        let (result, trace) = ask(&tables, &question, || true);
        assert_eq!((result, trace.allowed_by), (Some(true), None));
    }
}
