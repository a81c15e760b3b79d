//! How long a decision takes, allow and deny apart, with 10 to 100,000 policy rows: the index that Portcullis compiles beside
//! casbin-rs's own `enforce` for the same model, rows and questions, in the same run. Then what a policy costs to load
//! and to keep.
//!
//! The policy is that of a company: a role has 20 rows, with paths of its own under one of ten services; roles are three
//! deep; some of the callers have their roles by rows of `g`, the others by their tokens.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends when something is wrong"
)]

mod common;

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use casbin::{CoreApi, DefaultModel, Enforcer, StringAdapter};
use portcullis::policy::{PathForms, Policy, Question, Text, Verdict};

/// Rows of one role.
const OF_ROLE: usize = 20;
const SERVICES: usize = 10;

fn main() {
    let model = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/model.conf")).unwrap();
    println!("decide: microseconds a decision, the shipped model\n");
    println!(
        "| rows | links | roles in the token | answer | index | casbin-rs | casbin-rs to index | allocations |"
    );
    println!("|---:|---:|---:|---|---:|---:|---:|---:|");
    for (rows, links) in
        [(10, 10), (100, 10), (1000, 100), (10_000, 1000), (10_000, 10_000), (100_000, 10_000)]
    {
        decisions(&model, rows, links);
    }
    println!(
        "\n| rows | links | loaded and compiled in ms | casbin-rs loads in ms | bytes kept a row or link |"
    );
    println!("|---:|---:|---:|---:|---:|");
    for (rows, links) in [(1000, 1000), (10_000, 10_000), (100_000, 100_000)] {
        loads(&model, rows, links);
    }
}

fn decisions(model: &str, rows: usize, links: usize) {
    let text = policy(rows, links);
    let ours = load(model, &text);
    assert!(ours.is_compiled());
    let there = roles(rows);
    for granted in [1, 20] {
        // casbin-rs has the token's roles as rows.
        let granted: Vec<String> =
            (0..granted).map(|n| format!("role:a{}", n * 7 % there.div_ceil(2))).collect();
        let as_rows: String = granted.iter().map(|role| format!("g, user:caller, {role}\n")).collect();
        let theirs = casbin(model, &format!("{text}{as_rows}"));
        for (answer, role) in
            [("allow", Some(0)), ("deny, another's", Some(there - 1)), ("deny, nobody's", None)]
        {
            let expected = answer == "allow";
            if role == Some(0) && !expected {
                continue; // There is only one role.
            }
            let service = service(role.unwrap_or_default());
            let path =
                role.map_or("/elsewhere/page".to_owned(), |role| format!("/area{role}/things7/some/page"));
            let question = Question {
                user: "user:caller",
                roles: &granted,
                service: &service,
                path: &path,
                method: "GET",
                host: "app.example.com",
                ip: "192.0.2.1".parse().unwrap(),
            };
            let ask = || drop(black_box(ours.decide(black_box(&question))));
            let ask_theirs =
                || theirs.enforce(("user:caller", black_box(&*service), black_box(&*path), "GET")).unwrap();
            assert_eq!(matches!(ours.decide(&question), Verdict::Allow { .. }), expected, "{rows} {answer}");
            assert_eq!(ask_theirs(), expected);
            let allocations = allocation_counter::measure(ask).count_total;
            let our_time = micros(time(ask));
            let their_time = micros(time(|| _ = black_box(ask_theirs())));
            println!(
                "| {rows} | {links} | {} | {answer} | {our_time:.2} | {their_time:.0} | {:.0} | {allocations} |",
                granted.len(),
                their_time / our_time
            );
        }
    }
}

fn loads(model: &str, rows: usize, links: usize) {
    let text = policy(rows, links);
    let mut ours = None;
    let kept = allocation_counter::measure(|| ours = Some(load(model, &text))).bytes_current;
    drop(ours);
    let best = |once: &dyn Fn()| {
        let took = (0..3).map(|_| {
            let began = cpu_time();
            once();
            cpu_time() - began
        });
        took.min().unwrap()
    };
    let our_time = best(&|| drop(black_box(load(model, &text))));
    let their_time = best(&|| drop(black_box(casbin(model, &text))));
    println!(
        "| {rows} | {links} | {} | {} | {:.0} |",
        common::ms(our_time),
        common::ms(their_time),
        kept as f64 / (rows + links) as f64
    );
}

/// How many roles have rows.
fn roles(rows: usize) -> usize {
    rows.div_ceil(OF_ROLE)
}

fn service(role: usize) -> String {
    format!("s{}", role % SERVICES)
}

/// `rows` rows, [`OF_ROLE`] for each role, and `links` links: callers that have a team, teams that have a role.
fn policy(rows: usize, links: usize) -> String {
    let mut text = String::new();
    for row in 0..rows {
        let (role, of_role) = (row / OF_ROLE, row % OF_ROLE);
        let service = service(role);
        let path = match of_role % 4 {
            0 => format!("/area{role}/orders{of_role}/:id"),
            1 => format!("/area{role}/orders{of_role}/:id/items/:item"),
            2 => format!("/area{role}/page{of_role}"),
            _ => format!("/area{role}/things{of_role}/*"),
        };
        let methods = if of_role % 3 == 0 { "POST|PUT" } else { "GET|HEAD" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "p, role:r{role}, {service}, {path}, {methods}, allow");
    }
    let there = roles(rows);
    for link in 0..links {
        let _ = match link % 10 {
            0 => writeln!(text, "g, role:a{0}, role:b{0}", link / 10 % there),
            1 => writeln!(text, "g, role:b{0}, role:r{0}", link / 10 % there),
            _ => writeln!(text, "g, user:u{link}, role:a{}", link / 10 % there),
        };
    }
    // Roles that no link above has made.
    for role in (links / 10)..there {
        let _ = writeln!(text, "g, role:a{role}, role:b{role}\ng, role:b{role}, role:r{role}");
    }
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

/// The median of rounds, each long enough for the clock; of fewer where once takes long. It is the processor's time, which
/// others on the machine do not add to.
fn time(mut once: impl FnMut()) -> Duration {
    let began = cpu_time();
    once();
    let (first, budget) = (cpu_time() - began, common::measured_for());
    let rounds = if first * 15 > budget { 3 } else { 15 };
    let times = (budget.as_nanos() / rounds / first.as_nanos().max(1)).clamp(1, 1_000_000);
    let times = u32::try_from(times).unwrap();
    let mut took: Vec<Duration> = (0..rounds)
        .map(|_| {
            let began = cpu_time();
            (0..times).for_each(|_| once());
            (cpu_time() - began) / times
        })
        .collect();
    took.sort_unstable();
    common::percentile(&took, 0.5)
}

/// What this thread has had of the processor.
fn cpu_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
