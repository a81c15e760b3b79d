use super::*;
use crate::access::attempt::{ReadRules, TrustedProxies};
use crate::access::route::Routes;
use crate::access::{Connection, CredentialFault};

const EPOCHS: Epochs = Epochs { policy: Hash::ZERO, config: Hash::ZERO };

fn noise() -> Noise {
    Noise::new(Some(1), Clock::system())
}

fn key(n: u8) -> Key {
    Key::Identical(Hash([n; 32]))
}

#[test]
fn a_first_that_never_came_to_be_is_leant_on_by_nobody() {
    let noise = noise();
    let now = Instant::now();
    let first = noise.lock().open(key(1), EPOCHS, now);
    assert!(noise.lock().lean(key(1), None, now).is_some());
    drop(first);
    assert!(noise.lock().lean(key(1), None, now).is_none());
    assert!(noise.take().is_empty() && noise.lock().rows.is_empty());
}

#[test]
fn what_leant_on_a_first_is_counted_for_it_though_another_took_its_place() {
    let noise = noise();
    let now = Instant::now();
    let first = noise.lock().open(key(1), EPOCHS, now);
    first.send_replace(Some(7));
    let leans: Vec<Lean> = (0..3).filter_map(|_| noise.lock().lean(key(1), None, now)).collect();
    noise.lock().open(key(1), EPOCHS, now).send_replace(Some(9));
    leans.into_iter().for_each(|lean| noise.count(lean, EPOCHS));
    let counts: Vec<(u64, u64)> =
        noise.take().into_iter().map(|(_, count)| (count.decision, count.count)).collect();
    assert_eq!(counts, [(7, 3)]);
}

#[test]
fn a_count_that_could_not_be_written_comes_again() {
    let noise = noise();
    let now = Instant::now();
    noise.lock().open(key(1), EPOCHS, now).send_replace(Some(7));
    let lean = noise.lock().lean(key(1), None, now).unwrap();
    noise.count(lean, EPOCHS);
    let taken = noise.take();
    assert_eq!((taken.len(), noise.take().len()), (1, 0));
    taken.into_iter().for_each(|(epochs, count)| noise.put_back(epochs, count));
    assert_eq!(noise.take().len(), 1);
}

#[test]
fn few_networks_have_a_fold_of_their_own() {
    let noise = noise();
    for n in 0..100_u8 {
        let mut state = noise.lock();
        let key = state.fold_of(IpAddr::from([10, 0, 0, n]));
        state.open(key, EPOCHS, Instant::now());
    }
    assert_eq!(noise.lock().rows.len(), NETWORKS + 1);
}

#[test]
fn reads_of_one_reader_are_one_record_a_minute_and_their_count_comes_when_that_is_over() {
    let noise = noise();
    let (attempt, identity) = (attempt("/checkpoint"), Identity::Anonymous);
    let tell = |read| noise.tell_read(&attempt, &identity, read, EPOCHS);
    let Told::Alone(Some(first)) = tell(LogRead::Tree) else { panic!("the first has a record") };
    first.send_replace(Some(7));
    for read in [LogRead::Tree, LogRead::Bundle, LogRead::Tree] {
        let Told::On(lean) = tell(read) else { panic!("one more has none") };
        noise.count(lean, EPOCHS);
    }
    assert!(noise.take_due().is_empty(), "the minute is not over");
    let begun = Instant::now().checked_sub(READ_WINDOW).unwrap();
    noise.lock().rows.values_mut().for_each(|row| row.opened = begun);
    let told = tell(LogRead::Tree);
    assert!(matches!(told, Told::Alone(Some(_))), "another minute, another record");
    let counts: Vec<Counted> = noise.take_due().into_iter().map(|(_, count)| count.what).collect();
    assert_eq!(counts, [Counted::Reads { bundles: 1 }]);
    assert_eq!(noise.take().len(), 0);
}

#[test]
fn what_was_read_in_a_window_is_written_once_when_it_is_over_or_at_the_end() {
    for at_the_end in [true, false] {
        let noise = noise();
        let (attempt, identity) = (attempt("/tile/0/000"), Identity::Anonymous);
        let tell = || noise.tell_read(&attempt, &identity, LogRead::Tree, EPOCHS);
        let Told::Alone(Some(first)) = tell() else { panic!("the first has a record") };
        first.send_replace(Some(7));
        let Told::On(lean) = tell() else { panic!("one more has none") };
        noise.count(lean, EPOCHS);
        let taken = if at_the_end {
            noise.take()
        } else {
            let begun = Instant::now().checked_sub(READ_WINDOW).unwrap();
            noise.lock().rows.values_mut().for_each(|row| row.opened = begun);
            noise.take_due()
        };
        assert_eq!(
            taken.iter().map(|(_, count)| (count.decision, count.count)).collect::<Vec<_>>(),
            [(7, 1)]
        );
        assert!(noise.take().is_empty());
    }
}

#[test]
fn two_readers_are_two() {
    let noise = noise();
    let attempt = attempt("/checkpoint");
    let (anonymous, failed) = (Identity::Anonymous, Identity::Failed(CredentialFault::Expired));
    let other = Epochs { policy: Hash::of(b"another"), ..EPOCHS };
    for (identity, epochs) in [(&anonymous, EPOCHS), (&failed, EPOCHS), (&anonymous, other)] {
        let told = noise.tell_read(&attempt, identity, LogRead::Tree, epochs);
        let Told::Alone(Some(first)) = told else { panic!("it leans on another's") };
        first.send_replace(Some(1));
    }
}

fn attempt(path: &str) -> Attempt {
    let (head, ()) = http::Request::get(path).header("host", "gate").body(()).unwrap().into_parts();
    let connection = Connection::without_certificate("192.0.2.1:5000".parse().unwrap(), None);
    let (routes, trusted) = (Routes::new([]), TrustedProxies::default());
    Attempt::read(&head, &connection, &ReadRules { routes: &routes, trusted: &trusted, target_bytes: 100 }, 1)
}
