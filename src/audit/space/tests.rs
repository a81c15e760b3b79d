//! The watch against a disk that is filled and emptied at will.

use std::sync::Mutex;

use super::*;

/// A disk of which `others` is taken, and a list of what was done.
#[derive(Clone)]
struct Scene(Arc<Mutex<State>>);

struct State {
    others: u64,
    held: bool,
    broken: bool,
    done: Vec<String>,
}

const SIZE: u64 = 10_000;
const LEVELS: Levels = Levels { low: 3_200, reserve: 1_000 };

impl Scene {
    fn with(others: u64) -> Self {
        Self(Arc::new(Mutex::new(State { others, held: false, broken: false, done: vec![] })))
    }

    /// Lets `free` bytes be free beside what is held.
    fn leave(&self, free: u64) {
        let mut state = self.0.lock().unwrap();
        state.others = SIZE - free - if state.held { LEVELS.reserve } else { 0 };
    }

    fn break_down(&self, broken: bool) {
        self.0.lock().unwrap().broken = broken;
    }

    fn did(&self, what: impl Into<String>) {
        self.0.lock().unwrap().done.push(what.into());
    }

    /// What was done since the last time.
    fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().done)
    }

    fn begin(&self) -> Looking<Self, Self> {
        Looking::begin(self.clone(), self.clone(), LEVELS, Space::default()).unwrap()
    }
}

impl Volume for Scene {
    fn free(&self) -> io::Result<u64> {
        let state = self.0.lock().unwrap();
        if state.broken {
            return Err(io::ErrorKind::Other.into());
        }
        Ok(SIZE.saturating_sub(state.others + if state.held { LEVELS.reserve } else { 0 }))
    }

    fn is_held(&self) -> bool {
        self.0.lock().unwrap().held
    }

    fn hold(&mut self) -> io::Result<bool> {
        let mut state = self.0.lock().unwrap();
        state.held = state.others + LEVELS.reserve <= SIZE;
        if state.held {
            state.done.push("hold".into());
        }
        Ok(state.held)
    }

    fn give_back(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().held = false;
        self.did("give back");
        Ok(())
    }
}

impl Log for Scene {
    fn pause(&self, paused: bool) {
        self.did(if paused { "pause" } else { "resume" });
    }

    fn note(&self, room: Room, free_bytes: u64) {
        self.did(format!("{} {free_bytes}", room.as_str()));
    }

    fn is_closed(&self) -> bool {
        false
    }
}

#[test]
fn a_disk_that_fills_is_low_then_full_and_comes_back_by_itself() {
    let scene = Scene::with(0);
    let mut looking = scene.begin();
    assert_eq!(scene.done(), ["hold"]);
    for (free, done, room) in [
        (3_200, vec![], Room::Ample),
        (3_199, vec!["low 3199"], Room::Low),
        (1_000, vec![], Room::Low),
        (999, vec!["pause", "give back", "full 1999"], Room::Full),
        // Without the reserve that was held, there is now more; that is not room.
        (1_999, vec![], Room::Full),
        (2_249, vec![], Room::Full),
        (2_250, vec!["hold", "resume", "low 1250"], Room::Low),
        (3_399, vec![], Room::Low),
        (3_400, vec!["ample 3400"], Room::Ample),
        // All at once.
        (0, vec!["pause", "give back", "full 1000"], Room::Full),
        (0, vec![], Room::Full),
        (9_000, vec!["hold", "resume", "ample 8000"], Room::Ample),
    ] {
        scene.leave(free);
        looking.look_again();
        assert_eq!(
            (scene.done(), looking.space.room()),
            (done.iter().map(ToString::to_string).collect(), room),
            "{free}"
        );
    }
}

#[test]
fn a_gate_that_begins_on_a_full_disk_takes_no_decision_before_there_is_room() {
    for held in [false, true] {
        let scene = Scene::with(8_500);
        scene.0.lock().unwrap().held = held;
        let mut looking = scene.begin();
        assert_eq!(scene.done(), ["pause", "give back", "full 1500"]);
        scene.leave(2_000);
        looking.look_again();
        assert_eq!(scene.done(), Vec::<String>::new());
        scene.leave(9_000);
        looking.look_again();
        assert_eq!(scene.done(), ["hold", "resume", "ample 8000"]);
    }
}

#[test]
fn a_gate_that_begins_on_a_disk_that_is_low_says_so() {
    let scene = Scene::with(6_500);
    let looking = scene.begin();
    assert_eq!((scene.done(), looking.space.room()), (vec!["hold".into(), "low 2500".to_owned()], Room::Low));
}

#[test]
fn a_disk_that_cannot_be_looked_at_changes_nothing() {
    let scene = Scene::with(0);
    let mut looking = scene.begin();
    scene.done();
    for broken in [true, true, false] {
        scene.break_down(broken);
        looking.look_again();
        assert_eq!((scene.done(), looking.space.room()), (vec![], Room::Ample));
    }
}

#[test]
fn the_watch_looks_until_it_is_dropped() {
    let (scene, space) = (Scene::with(0), Space::default());
    let watch = Watch::begin(scene.clone(), scene.clone(), LEVELS, space.clone()).unwrap();
    scene.leave(500);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while space.room() != Room::Full {
        assert!(std::time::Instant::now() < deadline, "nobody looked");
        std::thread::yield_now();
    }
    drop(watch);
    let thread_gone = || Arc::strong_count(&scene.0) == 1;
    while !thread_gone() {
        assert!(std::time::Instant::now() < deadline, "it still looks");
        std::thread::yield_now();
    }
}
