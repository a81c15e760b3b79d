//! A log filled with records as a busy gate writes them, without a gate.

use std::time::Duration;

use portcullis::access::recording::Detail;
use portcullis::access::{Caller, Decision, Identity, ProofMethod, Reason};
use portcullis::audit::checkpoint::SigningKey;
use portcullis::audit::hash::Hash;
use portcullis::audit::journal::keys::LogKeys;
use portcullis::audit::journal::reconcile::{LogState, reconcile};
use portcullis::audit::record::{
    Body, ClientEntry, DecisionEntry, Epochs, OutcomeEntry, OutcomeResult, RequestEntry, Shown, seal,
};
use portcullis::audit::rocks::RocksStore;
use portcullis::audit::storage::{Batch, Store as _};
use portcullis::clock::{Clock, Timestamp};

/// Chain, tree and store, as the journal's writer keeps them.
pub(crate) struct Writer<'a> {
    store: &'a RocksStore,
    key: SigningKey,
    state: LogState,
    /// What the next commit writes.
    pub(crate) batch: Batch,
    time: Timestamp,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(store: &'a RocksStore, key: SigningKey) -> Self {
        let keys = LogKeys::from(key);
        let state = reconcile(store, &keys).unwrap();
        let mut batch = Batch::default();
        batch.restart(state.frontier.size());
        Self { store, key: keys.signing, state, batch, time: Clock::system().now() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.state.frontier.size()
    }

    pub(crate) fn push(&mut self, body: &Body) -> u64 {
        let (index, prev, time) = (self.batch.next_index(), self.state.prev, self.time);
        let leaf = self.batch.push(|out| seal(index, &prev, time, body, out));
        self.state.prev = leaf;
        let nodes = &mut self.batch.nodes;
        self.state.frontier.push(leaf, |id, hash| nodes.push((id, hash)));
        index
    }

    pub(crate) fn commit(&mut self) {
        let size = self.size();
        self.batch.tip = Some(self.state.prev);
        self.batch.checkpoint = self.key.sign(size, &self.state.frontier.root());
        self.store.commit(&self.batch).unwrap();
        self.batch.restart(size);
    }
}

/// What is recorded of an allowed call.
pub(crate) fn decision(call: u64) -> Body {
    let caller = Caller {
        user: format!("user:employee-{}", call % 5_000),
        roles: vec!["role:viewer".to_owned()],
        issuer: "main".to_owned(),
        method: ProofMethod::Jwt,
        token_id: Some(format!("{:016x}", call.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        key_id: Some("2026-11".to_owned()),
        expires: Timestamp::from_micros(i64::MAX),
        also: None,
    };
    let id = format!("{:032x}", u128::from(call).wrapping_mul(0x2545_f491_4f6c_dd1d_9e37_79b9_7f4a_7c15));
    let path = format!("/docs/{}/pages/{}", call % 977, call % 100_003);
    Body::decision(&DecisionEntry {
        decision: &Decision::allow(Reason::PolicyAllow, None),
        epochs: EPOCHS,
        identity: &Identity::Proved(caller.into()),
        certificate: None,
        client: ClientEntry {
            ip: std::net::Ipv4Addr::from((10 << 24) + (call % 60_000) as u32).into(),
            port: 1024 + (call % 60_000) as u16,
            via: None,
            tls: Some("TLSv1.3"),
        },
        request: RequestEntry {
            id: &id,
            service: Some("app"),
            method: "GET",
            host: Some(b"app.example.com"),
            path: Some(Shown::Whole(path.as_bytes())),
            target: None,
            query: &[b"page", b"size"],
            user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            trace_id: Some(&id),
            head: None,
            tag: None,
        },
        detail: Detail::Standard,
        outcome_follows: true,
    })
}

/// What is recorded of its end.
pub(crate) fn outcome(decision: u64) -> Body {
    Body::outcome(&OutcomeEntry {
        decision,
        epochs: EPOCHS,
        result: OutcomeResult::Completed,
        detail: None,
        status: Some(200),
        request_bytes: 0,
        response_bytes: 4_096 + decision % 10_000,
        duration: Duration::from_micros(700 + decision % 9_000),
        upstream: Some("http://10.0.0.7:9000"),
        tag: None,
    })
}

/// In force when they were made.
pub(crate) const EPOCHS: Epochs = Epochs { policy: Hash([1; 32]), config: Hash([2; 32]) };
