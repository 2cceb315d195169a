//! Turns for TLS handshakes: so many at once. There are two lines, one for those who were here before; in each, networks have
//! their turns one after the other, and in each network who came first. Without turns all that have come would be begun
//! at once, and all would be finished late, many of them too late; without the two lines a flood of strangers would stand
//! before those who only lost their connection. Knows no socket.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::broker::Network;
use crate::limits::{RETURNING_TURNS, TURN_MS_MAX};

/// All turns. Cheap to clone.
#[derive(Clone)]
pub(super) struct Turns {
    queue: Arc<Mutex<Queue>>,
    /// Turns that strangers may have whose networks are suspect.
    for_suspects: Arc<Semaphore>,
}

struct Queue {
    /// Turns that nobody has; none while somebody waits.
    free: usize,
    returning: Line,
    strangers: Line,
    /// Turns that went to the returning since a stranger had one.
    in_a_row: usize,
}

/// Who waits.
#[derive(Default)]
struct Line {
    /// The networks, each once, in the order in which they are next.
    order: VecDeque<Network>,
    waiting: HashMap<Network, VecDeque<oneshot::Sender<Turn>>>,
}

/// A turn; the next one's when it is dropped.
pub(super) struct Turn {
    queue: Arc<Mutex<Queue>>,
    suspect: Option<OwnedSemaphorePermit>,
}

/// Which line somebody belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comer {
    /// It shows that it was here before.
    Returning,
    /// It does not.
    Stranger,
}

impl Turns {
    /// So many at once, and of these so many for suspects.
    pub(super) fn new(at_once: usize, for_suspects: usize) -> Turns {
        let (returning, strangers) = (Line::default(), Line::default());
        let queue = Queue { free: at_once, returning, strangers, in_a_row: 0 };
        Turns { queue: Arc::new(Mutex::new(queue)), for_suspects: Arc::new(Semaphore::new(for_suspects)) }
    }

    /// Waits for a turn.
    pub(super) async fn next(&self, network: Network, comer: Comer) -> Turn {
        let given = {
            let mut queue = self.queue.lock();
            if queue.free > 0 {
                queue.free -= 1;
                return Turn::of(&self.queue);
            }
            match comer {
                Comer::Returning => queue.returning.wait(network),
                Comer::Stranger => queue.strangers.wait(network),
            }
        };
        given.await.expect("a turn is kept until it is given to who waits")
    }

    /// Whether somebody waits who was here before.
    pub(super) fn is_crowded(&self) -> bool {
        !self.queue.lock().returning.order.is_empty()
    }

    /// What is left of a turn that turns out to be a suspect's: nothing, when as many of them have one as may.
    pub(super) fn suspect(&self, mut turn: Turn) -> Option<Turn> {
        turn.suspect = Some(Arc::clone(&self.for_suspects).try_acquire_owned().ok()?);
        Some(turn)
    }
}

impl Queue {
    /// Who is next and still waits; if nobody, the turn is free.
    fn pass_on(&mut self) -> Option<oneshot::Sender<Turn>> {
        if self.in_a_row < RETURNING_TURNS
            && let Some(next) = self.returning.next()
        {
            self.in_a_row += 1;
            return Some(next);
        }
        self.in_a_row = 0;
        let next = self.strangers.next().or_else(|| self.returning.next());
        if next.is_none() {
            self.free += 1;
        }
        next
    }
}

impl Line {
    fn wait(&mut self, network: Network) -> oneshot::Receiver<Turn> {
        let (give, given) = oneshot::channel();
        let own = self.waiting.entry(network).or_default();
        if own.is_empty() {
            self.order.push_back(network);
        }
        // All wait equally long: who does no more stands in front. So there are no more here than sockets are open.
        while own.front().is_some_and(oneshot::Sender::is_closed) {
            own.pop_front();
        }
        own.push_back(give);
        given
    }

    /// Who is next and still waits.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        while let Some(network) = self.order.pop_front() {
            let own = self.waiting.get_mut(&network).expect("a network in the order has somebody who waits");
            let next = std::iter::from_fn(|| own.pop_front()).find(|give| !give.is_closed());
            if own.is_empty() {
                self.waiting.remove(&network);
            } else {
                self.order.push_back(network);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

impl Turn {
    fn of(queue: &Arc<Mutex<Queue>>) -> Turn {
        Turn { queue: Arc::clone(queue), suspect: None }
    }

    /// Does the work. The turn ends with it, or after a moment: the work then goes on beside the next one's.
    pub(super) async fn take<F: Future>(self, work: F) -> F::Output {
        let mut work = pin!(work);
        let done = timeout(Duration::from_millis(TURN_MS_MAX), work.as_mut()).await;
        drop(self);
        match done {
            Ok(output) => output,
            Err(_) => work.await,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = self.queue.lock().pass_on();
        if let Some(give) = next {
            // Who has gone since does not take it: then it is dropped, and so passed on again.
            let _ = give.send(Turn::of(&self.queue));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::Comer::{Returning, Stranger};
    use super::*;

    impl Turns {
        /// How many wait in each line, the returning first.
        pub(in crate::transport) fn waiting(&self) -> [usize; 2] {
            let queue = self.queue.lock();
            [&queue.returning, &queue.strangers].map(|line| line.waiting.values().map(VecDeque::len).sum())
        }
    }

    fn network(number: u8) -> Network {
        Network::of([192, 0, number, 1].into())
    }

    #[tokio::test]
    async fn who_does_nothing_holds_a_turn_for_a_moment_only() {
        let turns = Turns::new(1, 1);
        let silent = turns.next(network(1), Stranger).await.take(std::future::pending::<()>());
        let mut silent = pin!(silent);
        assert!(silent.as_mut().now_or_never().is_none());
        let mut second = pin!(turns.next(network(1), Stranger));
        assert!(second.as_mut().now_or_never().is_none(), "it is taken");
        let turn = tokio::select! {
            turn = second => turn,
            () = silent => panic!("it never ends"),
        };
        assert_eq!(turn.take(std::future::ready(7)).now_or_never(), Some(7));
        assert!(turns.next(network(1), Stranger).now_or_never().is_some(), "it ends with the work");
    }

    /// In which order these get the one turn.
    async fn order_of<T>(comers: impl IntoIterator<Item = (T, Network, Comer)>) -> Vec<T> {
        let turns = Turns::new(1, 1);
        let mut turn = Some(turns.next(network(0), Stranger).await);
        let mut waiting: Vec<_> = comers
            .into_iter()
            .map(|(name, network, comer)| (name, Box::pin(turns.next(network, comer))))
            .collect();
        waiting.iter_mut().for_each(|(_, next)| assert!(next.as_mut().now_or_never().is_none()));
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(turn.take());
            let (at, given) = (0..waiting.len())
                .find_map(|at| Some((at, waiting[at].1.as_mut().now_or_never()?)))
                .expect("somebody is next");
            turn = Some(given);
            order.push(waiting.remove(at).0);
        }
        order
    }

    #[tokio::test]
    async fn a_network_with_many_waits_for_itself() {
        for comer in [Returning, Stranger] {
            let order = order_of([1, 1, 1, 1, 2, 3, 2].map(|number| (number, network(number), comer))).await;
            assert_eq!(order, [1, 2, 3, 1, 2, 1, 1]);
        }
    }

    #[tokio::test]
    async fn who_was_here_before_goes_first_and_strangers_have_a_turn_among_many() {
        let strangers = (0..50).map(|_| (Stranger, network(1), Stranger));
        let returning = (0..2 * RETURNING_TURNS).map(|_| (Returning, network(1), Returning));
        let order = order_of(strangers.chain(returning)).await;
        let round = [vec![Returning; RETURNING_TURNS], vec![Stranger]].concat();
        assert_eq!(order[..2 * round.len()], [&round[..], &round[..]].concat());
        assert!(order[2 * round.len()..].iter().all(|comer| *comer == Stranger));
    }

    #[tokio::test]
    async fn strangers_are_no_crowd() {
        let turns = Turns::new(1, 1);
        let turn = turns.next(network(1), Stranger).await;
        let (mut stranger, mut again) =
            (pin!(turns.next(network(1), Stranger)), pin!(turns.next(network(1), Returning)));
        assert!(stranger.as_mut().now_or_never().is_none() && !turns.is_crowded());
        assert!(again.as_mut().now_or_never().is_none() && turns.is_crowded());
        drop(turn);
        assert!(again.now_or_never().is_some() && !turns.is_crowded());
    }

    #[tokio::test]
    async fn suspects_have_few_turns_and_leave_the_rest_to_others() {
        let turns = Turns::new(3, 1);
        let first = turns.suspect(turns.next(network(1), Stranger).await);
        assert!(first.is_some());
        assert!(turns.suspect(turns.next(network(2), Stranger).await).is_none());
        let others = [turns.next(network(1), Stranger).await, turns.next(network(3), Stranger).await];
        drop(first);
        assert!(turns.suspect(turns.next(network(2), Stranger).await).is_some());
        drop(others);
    }

    #[tokio::test]
    async fn who_waits_no_more_takes_no_turn_and_no_room() {
        let turns = Turns::new(1, 1);
        let turn = turns.next(network(1), Stranger).await;
        for _ in 0..100 {
            assert!(turns.next(network(1), Stranger).now_or_never().is_none());
            assert!(turns.queue.lock().strangers.waiting[&network(1)].len() <= 1);
        }
        let mut last = Box::pin(turns.next(network(2), Stranger));
        assert!(last.as_mut().now_or_never().is_none());
        drop(turn);
        // It was given, and is not taken.
        drop(last);
        let queue = turns.queue.lock();
        let Line { order, waiting } = &queue.strangers;
        assert_eq!((queue.free, order.len(), waiting.len()), (1, 0, 0));
    }
}
