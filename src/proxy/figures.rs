//! What is counted on the path of a request.

use metrics::counter;

use super::room::Crowded;
use crate::access::{Attempt, Decision};
use crate::audit::journal::Unrecorded;

/// Counts a decision, by service, decision and reason; none of them is a caller's to choose freely.
pub(super) fn decided(attempt: &Attempt, decision: &Decision) {
    let service = attempt.service().unwrap_or("none").to_owned();
    let (word, reason) = (decision.as_str(), decision.grounds().reason.code());
    counter!("portcullis_decisions_total", "service" => service, "decision" => word, "reason" => reason)
        .increment(1);
}

/// Counts a call turned away before its decision since its service or its caller holds its share of all calls.
pub(super) fn crowded(whose: Crowded) {
    let cause = match whose {
        Crowded::Service => "service_share",
        Crowded::Caller => "caller_share",
    };
    counter!("portcullis_shed_total", "cause" => cause).increment(1);
}

/// Counts a decision that was not known to be durable in time, by cause.
pub(super) fn unrecorded(cause: Unrecorded) {
    let cause = match cause {
        Unrecorded::QueueFull => "queue_full",
        Unrecorded::TimedOut => "timed_out",
        Unrecorded::DiskFull => "disk_full",
        Unrecorded::Failed => "failed",
        Unrecorded::Stopped => "stopped",
        Unrecorded::Closed => "closed",
    };
    counter!("portcullis_unrecorded_total", "cause" => cause).increment(1);
}
