//! Answers that come late, twice, or for an attempt that is over.

use super::super::harness::*;
use super::super::*;

/// An answer that names its attempt.
fn named(seq: crate::ids::Seq, attempt: u16, outcome: Outcome) -> CommandResult {
    CommandResult { attempt: Some(attempt), ..result(seq, outcome) }
}

#[test]
fn the_next_attempt_goes_out_once_the_failure_before_it_is_durable() {
    let mut rig = Rig::new();
    rig.connect(1, hello(10));
    let id = rig.publish_one(command("a"));
    rig.auto = false;
    rig.results(1, vec![named(id.seq, 1, Outcome::Failed)]);
    let failure = rig.seal().unwrap();
    assert!(delivered(&rig.wait(30_000), 1).is_empty(), "a crash would begin with the first attempt again");
    let out = rig.step(Input::Durable(failure));
    assert_eq!(deliveries(&out, 1).first().map(|delivery| delivery.attempt), Some(2));
}

#[test]
fn a_resent_attempt_goes_out_once_it_is_durable() {
    let mut rig = Rig::with(Settings { retry_delays: vec![], ..Settings::default() });
    rig.connect(1, hello(10));
    let id = rig.publish_one(command("a"));
    rig.results(1, vec![named(id.seq, 1, Outcome::Failed)]);
    rig.auto = false;
    let from = rig.reply_to();
    let out = rig.step(Input::Operate { from, id, operation: Operation::Resend });
    assert!(delivered(&out, 1).is_empty());
    let resent = rig.seal().unwrap();
    let out = rig.step(Input::Durable(resent));
    assert_eq!(deliveries(&out, 1).first().map(|delivery| delivery.attempt), Some(2));
}

#[test]
fn a_completion_counts_after_a_failure_of_the_same_attempt() {
    let mut rig =
        Rig::with(Settings { retry_delays: vec![crate::time::Millis(30_000)], ..Settings::default() });
    rig.connect(1, hello(10));
    let twice = NewCommand { on_doubt: OnDoubt::Rerun, ..command("run again after a doubt") };
    let (retried, exhausted) = (rig.publish_one(twice.clone()), rig.publish_one(twice));
    rig.results(1, vec![named(retried.seq, 1, Outcome::Failed), named(exhausted.seq, 1, Outcome::Failed)]);
    rig.results(1, vec![named(retried.seq, 1, Outcome::Failed)]);
    assert_eq!(rig.row(retried).attempt, 2, "a failure counts once");
    rig.results(1, vec![named(retried.seq, 1, Outcome::Completed)]);
    assert_eq!(rig.status(retried), Status::Completed, "the second execution has run it");
    assert_eq!(rig.row(retried).attempt, 2);
    rig.wait(30_000);
    rig.results(1, vec![named(exhausted.seq, 2, Outcome::Failed)]);
    assert_eq!(rig.status(exhausted), Status::Failed);
    rig.results(1, vec![named(exhausted.seq, 2, Outcome::Completed)]);
    assert_eq!(rig.status(exhausted), Status::Completed);
}
