//! HTTP/2 streams whose caller takes nothing of the answer.
//!
//! hyper asks an answer's body for more only once the stream's window has room. A caller that opens none would hold its
//! stream, its upstream and its place for as long as it likes, with other streams of the connection going on beside it;
//! so each stream is watched from outside.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

tokio::task_local! {
    static WATCH: Rc<Watch>;
}

/// Watches one stream; shared by the stream's task and the body of its answer.
#[derive(Debug, Default)]
pub struct Watch {
    until: Cell<Option<Instant>>,
    given_up: Cell<bool>,
}

impl Watch {
    /// The watch of the stream whose task this is; `None` in a task that serves none.
    pub fn of_this_stream() -> Option<Rc<Self>> {
        WATCH.try_with(Rc::clone).ok()
    }

    /// From now on the caller may take nothing for so long.
    pub fn wait(&self, patience: Duration) {
        self.until.set(Some(Instant::now() + patience));
    }

    /// The caller takes what there is.
    pub fn rest(&self) {
        self.until.set(None);
    }

    /// Whether the stream was given up since its caller took nothing.
    pub const fn has_given_up(&self) -> bool {
        self.given_up.get()
    }
}

/// Runs a stream's task to its end, or until its caller has taken nothing for too long: then the task is dropped, which
/// resets the stream.
pub async fn watched(stream: impl Future) {
    let watch = Rc::new(Watch::default());
    let mut stream = pin!(WATCH.scope(Rc::clone(&watch), stream));
    let mut timer: Option<std::pin::Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(until) = watch.until.get() else { return Poll::Pending };
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        let over = timer.as_mut().poll(cx);
        watch.given_up.set(over.is_ready());
        over
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a task does to its watch before it waits for ever, and whether it was given up within an hour.
    fn given_up(task: impl AsyncFnOnce(&Watch)) -> bool {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let stream = async {
                task(&Watch::of_this_stream().unwrap()).await;
                std::future::pending::<()>().await;
            };
            tokio::time::timeout(Duration::from_secs(3600), watched(stream)).await.is_ok()
        })
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_stream_whose_caller_takes_nothing_is_given_up() {
        assert!(given_up(async |watch| watch.wait(PATIENCE)));
    }

    #[test]
    fn one_that_waits_for_its_upstream_is_not() {
        assert!(!given_up(async |_| {}));
        assert!(!given_up(async |watch| {
            watch.wait(PATIENCE);
            tokio::time::sleep(PATIENCE / 2).await;
            watch.rest();
        }));
    }

    #[test]
    fn one_whose_caller_takes_something_now_and_then_is_not() {
        assert!(!given_up(async |watch| {
            for _ in 0..20 {
                watch.wait(PATIENCE);
                tokio::time::sleep(PATIENCE / 2).await;
            }
            watch.rest();
        }));
    }

    #[test]
    fn outside_of_a_stream_there_is_no_watch() {
        assert!(Watch::of_this_stream().is_none());
    }
}
