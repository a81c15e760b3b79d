//! The latest checkpoint brought to all witnesses, until enough have cosigned it; then the next.
//!
//! A checkpoint stays the target until it has its quorum, or every witness has cosigned it or failed: so witnesses of
//! different pace still meet on one. Each witness is asked by a task of its own; one that fails is left alone for a
//! while and then asked for whatever is the target by then. A cosignature that comes late counts for the checkpoint it
//! was asked for, if that is one of the last few.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::ask::{Asked, Failure, Target};
use super::post::Peer;
use crate::audit::checkpoint::{Checkpoint, CosignerKey, KeyChain, Note, WitnessPolicy};
use crate::audit::merkle::proof::consistency;
use crate::audit::record::Head;
use crate::audit::release::Release;
use crate::audit::storage::{Store, leaf_or_node};
use crate::clock::{Clock, Timestamp};

/// Who is asked, and what for.
#[derive(Debug)]
pub struct Setup {
    /// The witnesses: name, key, and where they are.
    pub witnesses: Vec<(String, CosignerKey, Peer)>,
    /// How many must have cosigned a checkpoint.
    pub quorum: usize,
    /// Whether decisions wait for their cosignatures.
    pub required: bool,
    /// How old a record may become uncosigned before no decision is taken any more; `None` is as old as it likes.
    pub deny_after: Option<Duration>,
}

/// The log that is witnessed.
pub struct Witnessed {
    /// Where it is.
    pub store: Arc<dyn Store>,
    /// What its checkpoints are signed with, now and before.
    pub keys: KeyChain,
    /// Its latest durable checkpoint, as a note.
    pub latest: Box<dyn Fn() -> Arc<str>>,
    /// What is told of it.
    pub release: Arc<Release>,
    /// The time.
    pub clock: Clock,
}

/// Witnesses being asked; no more once dropped.
#[derive(Debug)]
pub struct Following {
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Following {
    /// Begins to ask, on the current thread's set of tasks. Reads what is cosigned already, so it may block.
    pub fn start(setup: Setup, log: Witnessed) -> Self {
        let keys = setup.witnesses.iter().map(|(_, key, _)| key.clone());
        let policy = WitnessPolicy::of(keys, setup.quorum);
        log.release.set_waits(setup.required);
        log.release.set_denies(false);
        let before = cosigned_before(&log);
        if let Some((size, note)) = &before
            && is_met(&policy, note)
        {
            log.release.set_cosigned(*size, note.as_str().into());
        }
        let (target, wanted) = watch::channel(None);
        let (answer, answers) = mpsc::channel(ANSWERS);
        let mut tasks = Vec::new();
        let mut names = Vec::new();
        for (place, (name, key, peer)) in setup.witnesses.into_iter().enumerate() {
            let name: Arc<str> = name.into();
            begin_figures(&name);
            names.push(Arc::clone(&name));
            let known =
                before.as_ref().filter(|(_, note)| has_cosigned(&key, note)).map_or(0, |(size, _)| *size);
            let asked = Asked::new(name, key, peer, known);
            let follower = follow(asked, Arc::clone(&log.store), place, wanted.clone(), answer.clone());
            tasks.push(tokio::task::spawn_local(follower));
        }
        let witnesses = names.len();
        let mut round = Round {
            log,
            policy,
            names,
            required: setup.required,
            deny_after: setup.deny_after,
            target,
            recent: VecDeque::new(),
            failed: vec![false; witnesses],
            told: vec![None; witnesses],
            set: None,
            kept: None,
            oldest: None,
        };
        let mut answers = answers;
        tasks.push(tokio::task::spawn_local(async move { round.run(&mut answers).await }));
        Self { tasks }
    }
}

/// What one witness said to one target.
struct Answer {
    place: usize,
    size: u64,
    said: Result<String, Failure>,
}

/// Brings each target to one witness.
async fn follow(
    mut asked: Asked,
    store: Arc<dyn Store>,
    place: usize,
    mut wanted: watch::Receiver<Option<Arc<Target>>>,
    answer: mpsc::Sender<Answer>,
) {
    let (mut done, mut pause) = (0, RETRY_FIRST);
    loop {
        let target = wanted.borrow_and_update().clone();
        let Some(target) = target.filter(|target| target.size > done) else {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        let size = target.size;
        let prove = |old| {
            let store = Arc::clone(&store);
            async move {
                let made = move || consistency(old, size, |id| leaf_or_node(&*store, id));
                match tokio::task::spawn_blocking(made).await {
                    Ok(Ok(proof)) => Ok(proof),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            }
        };
        let said = asked.ask(&target, prove).await;
        let failed = said.is_err();
        if answer.send(Answer { place, size, said }).await.is_err() {
            return;
        }
        if failed {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
        } else {
            (done, pause) = (size, RETRY_FIRST);
        }
    }
}

/// One target after the other.
struct Round {
    log: Witnessed,
    policy: WitnessPolicy,
    names: Vec<Arc<str>>,
    required: bool,
    deny_after: Option<Duration>,
    target: watch::Sender<Option<Arc<Target>>>,
    /// The last targets, the current one at the end, each with the lines of those who cosigned it.
    recent: VecDeque<(Arc<Target>, BTreeMap<usize, String>)>,
    /// Who failed last.
    failed: Vec<bool>,
    /// What was last told of each one's failures.
    told: Vec<Option<&'static str>>,
    /// When the current target was set.
    set: Option<Instant>,
    /// When a cosigned checkpoint was kept for good last, and of what size.
    kept: Option<(Instant, u64)>,
    /// The oldest record that is not cosigned: its index and time.
    oldest: Option<(u64, Timestamp)>,
}

impl Round {
    async fn run(&mut self, answers: &mut mpsc::Receiver<Answer>) {
        let _deny = DenyOnPanic(Arc::clone(&self.log.release), self.deny_after.is_some());
        let release = Arc::clone(&self.log.release);
        loop {
            self.set_target();
            self.look().await;
            tokio::select! {
                answer = answers.recv() => match answer {
                    Some(answer) => self.take(answer).await,
                    None => return,
                },
                () = release.until_grown() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Sets the next target, if there is more to cosign and the current one is settled.
    fn set_target(&mut self) {
        let early = !self.required && self.set.is_some_and(|set| set.elapsed() < PACE);
        if early || !self.settled() {
            return;
        }
        let note = (self.log.latest)();
        // What this very process signed; it is opened again so that nothing else can ever be asked for.
        let Ok(checkpoint) = self.log.keys.open(note.as_bytes()) else { return };
        let size = checkpoint.size();
        if self.recent.back().is_some_and(|(target, _)| target.size >= size)
            || size <= self.log.release.cosigned()
        {
            return;
        }
        let target = Arc::new(Target { size, note });
        self.recent.push_back((Arc::clone(&target), BTreeMap::new()));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.set = Some(Instant::now());
        self.target.send_replace(Some(target));
    }

    /// Whether nothing more is to be expected of the current target.
    fn settled(&self) -> bool {
        let Some((target, lines)) = self.recent.back() else { return true };
        target.size <= self.log.release.cosigned()
            || self.failed.iter().enumerate().all(|(place, failed)| *failed || lines.contains_key(&place))
    }

    async fn take(&mut self, Answer { place, size, said }: Answer) {
        let name = self.names.get(place).cloned().unwrap_or_default();
        if let Some(failed) = self.failed.get_mut(place) {
            *failed = said.is_err();
        }
        self.tell(place, &name, size, &said);
        let Ok(line) = said else { return };
        let Some((target, lines)) = self.recent.iter_mut().find(|(target, _)| target.size == size) else {
            return;
        };
        lines.insert(place, line);
        let note = lines.values().fold(target.note.to_string(), |note, line| note + line.as_str());
        // More cosignatures of the one that has its quorum already are worth keeping, too; those of older ones are not.
        if size >= self.log.release.cosigned() && is_met(&self.policy, &note) {
            self.keep(size, note).await;
        }
    }

    /// Enough have cosigned it: it is written down, and then told.
    async fn keep(&mut self, size: u64, note: String) {
        let again = self.kept.is_some_and(|(_, kept)| kept == size);
        let due = self.kept.is_none_or(|(at, _)| at.elapsed() >= KEEP_EVERY);
        let (store, text) = (Arc::clone(&self.log.store), note.clone());
        let written =
            tokio::task::spawn_blocking(move || store.keep_cosigned(size, &text, due || again)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                return tracing::error!(%error, size, "a cosigned checkpoint could not be kept");
            }
            Err(error) => return tracing::error!(%error, size, "a cosigned checkpoint could not be kept"),
        }
        if due {
            self.kept = Some((Instant::now(), size));
        }
        self.log.release.set_cosigned(size, note.into());
    }

    /// Tells of an answer: each in figures, in words when it is another than the last.
    fn tell(&mut self, place: usize, name: &Arc<str>, size: u64, said: &Result<String, Failure>) {
        let label = name.to_string();
        let cause = said.as_ref().err().map(Failure::cause);
        let changed = self.told.get(place).is_none_or(|told| *told != cause);
        if let Some(told) = self.told.get_mut(place) {
            *told = cause;
        }
        let alarm = metrics::gauge!("portcullis_witness_alarm", "witness" => label.clone());
        match said {
            Ok(_) => {
                alarm.set(0.0);
                metrics::counter!("portcullis_witness_cosignatures_total", "witness" => label).increment(1);
                if changed {
                    tracing::info!(witness = %name, size, "cosigned");
                }
            }
            Err(failure) => {
                let cause = failure.cause();
                metrics::counter!("portcullis_witness_failures_total", "witness" => label, "cause" => cause)
                    .increment(1);
                if failure.is_alarm() {
                    alarm.set(1.0);
                    if changed {
                        tracing::error!(witness = %name, size, %failure, "a witness does not cosign this log");
                    }
                } else if changed {
                    tracing::warn!(witness = %name, size, %failure, "a witness did not cosign");
                }
            }
        }
    }

    /// Sees how far behind the cosignatures are, and refuses decisions where that is too far.
    async fn look(&mut self) {
        let cosigned = self.log.release.cosigned();
        let size = Checkpoint::stated((self.log.latest)().as_bytes()).map_or(0, |(size, _)| size);
        if self.oldest.is_none_or(|(index, _)| index != cosigned) {
            self.oldest = if size > cosigned { Some((cosigned, self.time_of(cosigned).await)) } else { None };
        }
        let now = self.log.clock.now();
        let age = self.oldest.map_or(Duration::ZERO, |(_, time)| {
            Duration::from_micros(u64::try_from(now.as_micros() - time.as_micros()).unwrap_or(0))
        });
        let denies = self.deny_after.is_some_and(|most| age > most);
        if denies != self.log.release.denies() {
            if denies {
                tracing::error!(
                    age_s = age.as_secs(),
                    cosigned,
                    "calls are answered 503: too old a record is not cosigned (log.witnesses.max_age)"
                );
            } else {
                tracing::info!(cosigned, "cosigned again: calls are decided again");
            }
        }
        self.log.release.set_denies(denies);
        metrics::gauge!("portcullis_witness_cosigned_size").set(cosigned as f64);
        metrics::gauge!("portcullis_witness_lag_records").set(size.saturating_sub(cosigned) as f64);
        metrics::gauge!("portcullis_witness_age_seconds").set(age.as_secs_f64());
        metrics::gauge!("portcullis_witness_denying").set(if denies { 1.0 } else { 0.0 });
    }

    /// The time of a record. One that cannot be read is as old as can be: that is for others to tell, not to overlook.
    async fn time_of(&self, index: u64) -> Timestamp {
        let store = Arc::clone(&self.log.store);
        let read = tokio::task::spawn_blocking(move || store.record(index)).await;
        let record = read.ok().and_then(|read| read.ok().flatten());
        let head = record.and_then(|record| Head::parse(&record).ok());
        head.map_or(Timestamp::from_micros(0), |head| head.time)
    }
}

/// The checkpoint that was cosigned last before, if it is one of this log's; its size and note.
fn cosigned_before(log: &Witnessed) -> Option<(u64, String)> {
    let note = match log.store.latest_cosigned() {
        Ok(note) => note?,
        Err(error) => {
            tracing::warn!(%error, "what was cosigned before cannot be read");
            return None;
        }
    };
    let checkpoint = log.keys.open(note.as_bytes()).ok()?;
    let (held, _) = Checkpoint::stated((log.latest)().as_bytes())?;
    (checkpoint.size() <= held).then(|| (checkpoint.size(), note))
}

fn has_cosigned(key: &CosignerKey, note: &str) -> bool {
    Note::parse(note.as_bytes()).is_ok_and(|note| matches!(key.cosigned(&note), Ok(Some(_))))
}

/// Whether enough have cosigned `note`, and no cosignature on it is bad.
fn is_met(policy: &WitnessPolicy, note: &str) -> bool {
    Note::parse(note.as_bytes()).is_ok_and(|note| policy.judge(&note).is_ok_and(|judgement| judgement.met))
}

fn begin_figures(name: &str) {
    metrics::gauge!("portcullis_witness_alarm", "witness" => name.to_owned()).set(0.0);
    metrics::counter!("portcullis_witness_cosignatures_total", "witness" => name.to_owned()).increment(0);
}

/// With nobody left to see how old records become, none is young enough.
struct DenyOnPanic(Arc<Release>, bool);

impl Drop for DenyOnPanic {
    fn drop(&mut self) {
        if self.1 && std::thread::panicking() {
            self.0.set_denies(true);
        }
    }
}

/// How often it is looked whether there is more to cosign, where nobody waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The least time between two targets, where nobody waits for them.
const PACE: Duration = Duration::from_secs(1);

/// How often a cosigned checkpoint is kept for good.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// How long a witness that failed is left alone: at first, and at last.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// How many targets are remembered for cosignatures that come late.
const RECENT: usize = 16;

/// Answers on their way.
const ANSWERS: usize = 64;
