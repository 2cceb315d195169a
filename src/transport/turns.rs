//! Turns for TLS handshakes: so many at once; networks one after the other, and in each who came first. Without them all that
//! have come would be begun at once, and all would be finished late, many of them too late. Knows no socket.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::broker::Network;
use crate::limits::TURN_MS_MAX;

/// All turns. Cheap to clone.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<Queue>>);

struct Queue {
    /// Turns that nobody has; none while somebody waits.
    free: usize,
    /// The networks of those who wait, each once, in the order in which they are next.
    order: VecDeque<Network>,
    waiting: HashMap<Network, VecDeque<oneshot::Sender<Turn>>>,
}

/// A turn; the next one's when it is dropped.
pub(super) struct Turn(Turns);

impl Turns {
    /// So many at once.
    pub(super) fn new(at_once: usize) -> Turns {
        Turns(Arc::new(Mutex::new(Queue { free: at_once, order: VecDeque::new(), waiting: HashMap::new() })))
    }

    /// Waits for a turn.
    pub(super) async fn next(&self, network: Network) -> Turn {
        let given = {
            let mut queue = self.0.lock();
            if queue.free > 0 {
                queue.free -= 1;
                return Turn(self.clone());
            }
            queue.wait(network)
        };
        given.await.expect("a turn is kept until it is given to who waits")
    }
}

impl Queue {
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

    /// Who is next and still waits; if nobody, the turn is free.
    fn pass_on(&mut self) -> Option<oneshot::Sender<Turn>> {
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
        self.free += 1;
        None
    }
}

impl Turn {
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
        let next = self.0.0.lock().pass_on();
        if let Some(give) = next {
            // Who has gone since does not take it: then it is dropped, and so passed on again.
            let _ = give.send(Turn(self.0.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn network(number: u8) -> Network {
        Network::of([192, 0, number, 1].into())
    }

    #[tokio::test]
    async fn who_does_nothing_holds_a_turn_for_a_moment_only() {
        let turns = Turns::new(1);
        let silent = turns.next(network(1)).await.take(std::future::pending::<()>());
        let mut silent = pin!(silent);
        assert!(silent.as_mut().now_or_never().is_none());
        let mut second = pin!(turns.next(network(1)));
        assert!(second.as_mut().now_or_never().is_none(), "it is taken");
        let turn = tokio::select! {
            turn = second => turn,
            () = silent => panic!("it never ends"),
        };
        assert_eq!(turn.take(std::future::ready(7)).now_or_never(), Some(7));
        assert!(turns.next(network(1)).now_or_never().is_some(), "it ends with the work");
    }

    #[tokio::test]
    async fn a_network_with_many_waits_for_itself() {
        let turns = Turns::new(1);
        let mut turn = Some(turns.next(network(1)).await);
        let mut waiting: Vec<_> = [1, 1, 1, 1, 2, 3, 2]
            .map(|number| (number, Box::pin(turns.next(network(number)))))
            .into_iter()
            .collect();
        waiting.iter_mut().for_each(|(_, next)| assert!(next.as_mut().now_or_never().is_none()));
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(turn.take());
            let mut place = 0..waiting.len();
            let (at, given) = place
                .find_map(|at| Some((at, waiting[at].1.as_mut().now_or_never()?)))
                .expect("somebody is next");
            turn = Some(given);
            order.push(waiting.remove(at).0);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 1, 1]);
    }

    #[tokio::test]
    async fn who_waits_no_more_takes_no_turn_and_no_room() {
        let turns = Turns::new(1);
        let turn = turns.next(network(1)).await;
        for _ in 0..100 {
            assert!(turns.next(network(1)).now_or_never().is_none());
            assert!(turns.0.lock().waiting[&network(1)].len() <= 1);
        }
        let mut last = Box::pin(turns.next(network(2)));
        assert!(last.as_mut().now_or_never().is_none());
        drop(turn);
        // It was given, and is not taken.
        drop(last);
        let queue = turns.0.lock();
        assert_eq!((queue.free, queue.order.len(), queue.waiting.len()), (1, 0, 0));
    }
}
