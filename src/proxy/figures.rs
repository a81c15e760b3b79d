//! What is counted on the path of a request.

use std::cell::RefCell;
use std::collections::HashMap;

use metrics::{Counter, counter};

use super::rates::Exceeded;
use super::room::Crowded;
use crate::access::{Attempt, Decision};
use crate::audit::journal::Unrecorded;

/// Counts a decision, by service, decision and reason; none of them is a caller's to choose freely.
pub(super) fn decided(attempt: &Attempt, decision: &Decision) {
    let service = attempt.service().unwrap_or("none");
    let (word, reason) = (decision.as_str(), decision.grounds().reason.code());
    // Looking a counter up by its labels costs several times what counting does, so each thread keeps those it has used.
    DECISIONS.with_borrow_mut(|decisions| {
        let of_service = match decisions.get_mut(service) {
            Some(of_service) => of_service,
            None => decisions.entry(service.to_owned()).or_default(),
        };
        let known = of_service.iter().find(|(known, _)| *known == (word, reason));
        if let Some((_, counter)) = known {
            return counter.increment(1);
        }
        let service = service.to_owned();
        let counter =
            counter!("portcullis_decisions_total", "service" => service, "decision" => word, "reason" => reason);
        counter.increment(1);
        of_service.push(((word, reason), counter));
    });
}

type OfService = Vec<((&'static str, &'static str), Counter)>;

thread_local! {
    /// The counters of decisions, by service, decision and reason.
    static DECISIONS: RefCell<HashMap<String, OfService>> = RefCell::default();
}

/// Counts a call turned away before its decision since its service or its caller holds its share of all calls.
pub(super) fn crowded(whose: Crowded) {
    let cause = match whose {
        Crowded::Service => "service_share",
        Crowded::Caller => "caller_share",
    };
    counter!("portcullis_shed_total", "cause" => cause).increment(1);
}

/// Counts a call refused since a rate was used up, by whose.
pub(super) fn exceeded(attempt: &Attempt, exceeded: &Exceeded) {
    let service = attempt.service().unwrap_or("none").to_owned();
    counter!("portcullis_rate_limited_total", "service" => service, "by" => exceeded.whose.as_str())
        .increment(1);
}

/// Counts a call that ended in a panic.
pub(super) fn panicked() {
    counter!("portcullis_panics_total").increment(1);
}

/// Counts a decision that was not known to be durable in time, by cause.
pub(super) fn unrecorded(cause: Unrecorded) {
    let cause = match cause {
        Unrecorded::QueueFull => "queue_full",
        Unrecorded::TimedOut => "timed_out",
        Unrecorded::DiskFull => "disk_full",
        Unrecorded::Unwitnessed => "unwitnessed",
        Unrecorded::Failed => "failed",
        Unrecorded::Stopped => "stopped",
        Unrecorded::Closed => "closed",
    };
    counter!("portcullis_unrecorded_total", "cause" => cause).increment(1);
}
