//! The order in which logins get their password hash: one turn for each server or key, then the next. Pure.
//!
//! The same credential presented again joins the one that waits, so it costs one hash however many connections show
//! it. Different credentials of one server wait for one another, not for others.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use crate::credentials::{Presented, SecretHash, Subject};
use crate::limits::LOGINS_WAITING_PER_SUBJECT_MAX;

/// A login that waits.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) presented: Presented,
    /// Of the subject when its hash was looked up.
    pub(super) generation: u32,
    pub(super) hash: SecretHash,
    /// Everybody who waits for the answer: at most as many as there are connections and calls.
    pub(super) answers: Vec<oneshot::Sender<bool>>,
}

impl Login {
    fn is_same(&self, other: &Login) -> bool {
        self.presented.digest == other.presented.digest && self.generation == other.generation
    }

    /// Nobody waits for it any more.
    fn is_abandoned(&self) -> bool {
        self.answers.iter().all(oneshot::Sender::is_closed)
    }
}

/// How much of the queue a login may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Whole,
    /// Of a network over its limit of failed logins.
    Half,
}

impl Share {
    fn of(self, max: usize) -> usize {
        match self {
            Share::Whole => max,
            Share::Half => max.div_ceil(2),
        }
    }
}

/// There is no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// See the module.
#[derive(Debug)]
pub(super) struct LoginQueue {
    /// Who waits, each once, in the order of their turns.
    turns: VecDeque<Subject>,
    waiting: HashMap<Subject, VecDeque<Login>>,
    len: usize,
    max: usize,
}

impl LoginQueue {
    /// A queue for `max` logins.
    pub(super) fn new(max: usize) -> LoginQueue {
        LoginQueue { turns: VecDeque::new(), waiting: HashMap::new(), len: 0, max }
    }

    /// Logins that wait for a hash.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Hashes before that of a new login of this subject, at most.
    pub(super) fn ahead_of(&self, subject: Subject) -> usize {
        if self.waiting.contains_key(&subject) { self.len } else { self.turns.len() }
    }

    /// Joins the same credential that waits already; gives the login back when there is none.
    pub(super) fn join(&mut self, login: Login) -> Option<Login> {
        let waiting = self.waiting.get_mut(&login.presented.subject);
        let Some(same) = waiting.and_then(|waiting| waiting.iter_mut().find(|other| other.is_same(&login)))
        else {
            return Some(login);
        };
        same.answers.retain(|answer| !answer.is_closed());
        same.answers.extend(login.answers);
        None
    }

    /// Adds a login at the end of its subject's turns.
    pub(super) fn push(&mut self, login: Login, share: Share) -> Result<(), Full> {
        let subject = login.presented.subject;
        let own = self.waiting.get(&subject).map_or(0, VecDeque::len);
        if self.len >= share.of(self.max) || own >= share.of(LOGINS_WAITING_PER_SUBJECT_MAX) {
            return Err(Full);
        }
        if own == 0 {
            self.turns.push_back(subject);
        }
        self.waiting.entry(subject).or_default().push_back(login);
        self.len += 1;
        Ok(())
    }

    /// The next login for which somebody still waits.
    pub(super) fn take_next(&mut self) -> Option<Login> {
        loop {
            let subject = self.turns.pop_front()?;
            let own = self.waiting.get_mut(&subject).expect("who has a turn waits");
            let login = own.pop_front().expect("who waits has a login");
            self.len -= 1;
            if own.is_empty() {
                self.waiting.remove(&subject);
            } else {
                self.turns.push_back(subject);
            }
            if !login.is_abandoned() {
                return Some(login);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{DataKey, HashCost, RandomPart, Sealer};
    use crate::ids::ServerId;

    /// Makes logins and keeps their answers open.
    struct World {
        sealer: Sealer,
        open: Vec<oneshot::Receiver<bool>>,
    }

    impl World {
        fn new() -> World {
            World { sealer: Sealer::new(&DataKey::generate()), open: Vec::new() }
        }

        fn presented(&self, server: u32) -> Presented {
            let subject = Subject::Server(ServerId(server));
            let token = self.sealer.seal(subject, &RandomPart::generate());
            self.sealer.open(token.reveal()).unwrap()
        }

        fn again(&mut self, presented: &Presented) -> Login {
            let (answer, answered) = oneshot::channel();
            self.open.push(answered);
            let hash = SecretHash::dummy(HashCost::TINY);
            Login { presented: presented.clone(), generation: 1, hash, answers: vec![answer] }
        }

        fn login(&mut self, server: u32) -> Login {
            let presented = self.presented(server);
            self.again(&presented)
        }
    }

    fn server(login: Login) -> u32 {
        let Subject::Server(id) = login.presented.subject else { panic!("only servers here") };
        id.0
    }

    #[test]
    fn servers_have_their_turns_however_much_one_asks() {
        let mut world = World::new();
        let mut queue = LoginQueue::new(100);
        for number in [1, 1, 1, 1, 2, 3, 3] {
            queue.push(world.login(number), Share::Whole).unwrap();
        }
        assert_eq!(queue.ahead_of(Subject::Server(ServerId(9))), 3, "one turn each before a new one");
        assert_eq!(queue.ahead_of(Subject::Server(ServerId(1))), 7);
        let order: Vec<u32> = std::iter::from_fn(|| queue.take_next().map(server)).collect();
        assert_eq!(order, [1, 2, 3, 1, 3, 1, 1]);
        assert_eq!((queue.len(), queue.waiting.len()), (0, 0));
    }

    #[test]
    fn the_same_credential_joins_and_another_generation_does_not() {
        let mut world = World::new();
        let mut queue = LoginQueue::new(100);
        let presented = world.presented(1);
        queue.push(world.again(&presented), Share::Whole).unwrap();
        for _ in 0..50 {
            assert!(queue.join(world.again(&presented)).is_none());
        }
        let newer = Login { generation: 2, ..world.again(&presented) };
        assert!(queue.join(newer).is_some());
        assert!(queue.join(world.login(1)).is_some() && queue.join(world.login(2)).is_some());
        world.open.truncate(10);
        assert!(queue.join(world.again(&presented)).is_none());
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.take_next().unwrap().answers.len(), 11, "who went away is forgotten");
    }

    #[test]
    fn all_and_each_are_bounded_and_half_is_kept_from_suspects() {
        let mut world = World::new();
        let mut queue = LoginQueue::new(10);
        let mut fits = |queue: &mut LoginQueue, server, share| queue.push(world.login(server), share).is_ok();
        assert!(fits(&mut queue, 1, Share::Half) && fits(&mut queue, 1, Share::Half));
        assert!(!fits(&mut queue, 1, Share::Half), "half of one server's places");
        assert!(fits(&mut queue, 1, Share::Whole) && fits(&mut queue, 1, Share::Whole));
        assert!(!fits(&mut queue, 1, Share::Whole));
        assert!(fits(&mut queue, 2, Share::Half));
        assert!(!fits(&mut queue, 3, Share::Half), "half of all places");
        for server in 3..8 {
            assert!(fits(&mut queue, server, Share::Whole));
        }
        assert!(!fits(&mut queue, 8, Share::Whole));
        queue.take_next().unwrap();
        assert!(fits(&mut queue, 8, Share::Whole));
    }

    #[test]
    fn whom_nobody_waits_for_is_passed_over() {
        let mut world = World::new();
        let mut queue = LoginQueue::new(10);
        for number in [1, 2, 3] {
            queue.push(world.login(number), Share::Whole).unwrap();
        }
        drop(world.open.drain(..2));
        assert_eq!(queue.take_next().map(server), Some(3));
        assert_eq!((queue.take_next().map(server), queue.len()), (None, 0));
    }
}
