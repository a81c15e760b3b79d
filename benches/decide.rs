//! How long a decision takes, allow and deny apart, with 10, 100 and 1,000 policy rows: Portcullis beside casbin-rs's own
//! `enforce` for the same model, rows and questions, in the same run.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends when something is wrong"
)]

mod common;

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use casbin::{CoreApi, DefaultModel, Enforcer, StringAdapter};
use portcullis::policy::{PathForms, Policy, Question, Text, Verdict};

fn main() {
    let model = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/model.conf")).unwrap();
    println!("decide: microseconds a decision, the shipped model\n");
    println!("| rows | answer | Portcullis | casbin-rs | Portcullis to casbin-rs |");
    println!("|---:|---|---:|---:|---:|");
    for rows in [10, 100, 1000] {
        let policy_text = policy(rows);
        let ours = load(&model, &policy_text);
        let theirs = casbin(&model, &policy_text);
        for (answer, path) in
            [("allow", format!("/area/{}/page", rows / 2)), ("deny", "/elsewhere/page".to_owned())]
        {
            let question = Question {
                user: "user:alice",
                roles: &[],
                service: "app",
                path: &path,
                method: "GET",
                host: "app.example.com",
                ip: "192.0.2.1".parse().unwrap(),
            };
            let expected = answer == "allow";
            assert_eq!(matches!(ours.decide(&question), Verdict::Allow { .. }), expected);
            assert_eq!(theirs.enforce(("user:alice", "app", path.as_str(), "GET")).unwrap(), expected);
            let our_time = time(|| drop(black_box(ours.decide(black_box(&question)))));
            let their_time = time(|| {
                drop(black_box(theirs.enforce(("user:alice", "app", black_box(path.as_str()), "GET"))))
            });
            println!(
                "| {rows} | {answer} | {:.1} | {:.1} | {:.2} |",
                micros(our_time),
                micros(their_time),
                micros(our_time) / micros(their_time)
            );
        }
    }
}

/// `rows` rows, each an area of its own for one of ten roles; alice has the role of the one in the middle.
fn policy(rows: usize) -> String {
    let mut text = String::new();
    for row in 0..rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "p, role:r{}, app, /area/{row}/*, GET|HEAD, allow", row % 10);
    }
    let _ = writeln!(text, "g, user:alice, role:r{}", rows / 2 % 10);
    text
}

fn load(model: &str, policy: &str) -> Policy {
    let text = |name: &str, text: &str| Text { name: name.to_owned(), text: text.to_owned() };
    Policy::load_text(&text("model.conf", model), &[text("policy.csv", policy)], PathForms::default())
        .unwrap()
}

fn casbin(model: &str, policy: &str) -> Enforcer {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let model = DefaultModel::from_str(model).await.unwrap();
        Enforcer::new(model, StringAdapter::new(policy)).await.unwrap()
    })
}

/// The median of rounds, each long enough for the clock.
fn time(mut once: impl FnMut()) -> Duration {
    once();
    let began = Instant::now();
    once();
    let rounds: u32 = 15;
    let budget = common::measured_for() / rounds;
    let times =
        u32::try_from((budget.as_nanos() / began.elapsed().as_nanos().max(1)).clamp(1, 1_000_000)).unwrap();
    let mut took: Vec<Duration> = (0..rounds)
        .map(|_| {
            let began = Instant::now();
            (0..times).for_each(|_| once());
            began.elapsed() / times
        })
        .collect();
    took.sort_unstable();
    common::percentile(&took, 0.5)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
