//! What stands beside Portcullis in `benches/peers/` and is in no package: a bare proxy, the service behind nginx's
//! `auth_request`, and a load of a fixed rate.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends when something is wrong"
)]

mod authorize;
mod bare;
mod load;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

#[derive(Parser)]
enum Role {
    /// A proxy that decides nothing and writes nothing
    Bare {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
        #[arg(long)]
        workers: usize,
        /// One runtime of so many threads that share their tasks, instead of one for each
        #[arg(long)]
        shared: bool,
    },
    /// Answers nginx's `auth_request`: an ES256 token, then Casbin
    Authorize {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        workers: usize,
        #[arg(long)]
        key_set: PathBuf,
        #[arg(long)]
        issuer: String,
        #[arg(long)]
        audience: String,
    },
    /// Calls at a fixed rate, or as fast as answers come, and prints what it saw as JSON
    Load {
        #[arg(long)]
        target: SocketAddr,
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        seconds: f64,
        /// Calls a second, of all connections; 0 is one after another
        #[arg(long, default_value_t = 0.0)]
        rate: f64,
        /// What to ask for: lines of method, path and token
        #[arg(long)]
        requests: PathBuf,
    },
}

fn main() {
    match Role::parse() {
        Role::Bare { listen, upstream, workers, shared } => {
            let listener = TcpListener::bind(listen).unwrap();
            if shared {
                bare::shared(listener, workers, upstream);
            } else {
                bare::per_core(&listener, workers, move |stream| bare::pass(stream, upstream));
            }
        }
        Role::Authorize { listen, workers, key_set, issuer, audience } => {
            authorize::serve(&TcpListener::bind(listen).unwrap(), workers, &key_set, &issuer, &audience);
        }
        Role::Load { target, connections, seconds, rate, requests } => {
            let requests = load::requests(&std::fs::read_to_string(requests).unwrap(), target);
            let time = Duration::from_secs_f64(seconds);
            println!("{}", load::run(target, connections, time, rate, requests));
        }
    }
}
