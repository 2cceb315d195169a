//! The order in which logins get their password hash: one turn for each server, then the next; and so for keys, beside them.
//! Pure.
//!
//! Keys and servers take turns, each kind with places of its own: ten thousand servers that come back at once do not keep
//! out the stores whose orders they are there for.
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
    servers: Lane,
    keys: Lane,
    /// Whose turn it is when both wait.
    key_is_next: bool,
}

impl LoginQueue {
    /// A queue for `max` logins of servers and as many of keys.
    pub(super) fn new(max: usize) -> LoginQueue {
        LoginQueue { servers: Lane::new(max), keys: Lane::new(max), key_is_next: false }
    }

    /// Logins that wait for a hash.
    pub(super) fn len(&self) -> usize {
        self.servers.len + self.keys.len
    }

    /// Hashes before that of a new login of this subject, at most.
    pub(super) fn ahead_of(&self, subject: Subject) -> usize {
        let (own, other) = match subject {
            Subject::Server(_) => (&self.servers, &self.keys),
            Subject::Key(_) | Subject::Admin => (&self.keys, &self.servers),
        };
        let ahead = own.ahead_of(subject);
        ahead + other.len.min(ahead + 1)
    }

    /// Joins the same credential that waits already; gives the login back when there is none.
    pub(super) fn join(&mut self, login: Login) -> Option<Login> {
        self.lane_of(&login).join(login)
    }

    /// Adds a login at the end of its subject's turns.
    pub(super) fn push(&mut self, login: Login, share: Share) -> Result<(), Full> {
        self.lane_of(&login).push(login, share)
    }

    /// The next login for which somebody still waits.
    pub(super) fn take_next(&mut self) -> Option<Login> {
        let key_first = self.key_is_next;
        let (first, second) = match key_first {
            true => (&mut self.keys, &mut self.servers),
            false => (&mut self.servers, &mut self.keys),
        };
        if let Some(login) = first.take_next() {
            self.key_is_next = !key_first;
            return Some(login);
        }
        second.take_next()
    }

    fn lane_of(&mut self, login: &Login) -> &mut Lane {
        match login.presented.subject {
            Subject::Server(_) => &mut self.servers,
            Subject::Key(_) | Subject::Admin => &mut self.keys,
        }
    }
}

/// The queue of one kind of subjects.
#[derive(Debug)]
struct Lane {
    /// Who waits, each once, in the order of their turns.
    turns: VecDeque<Subject>,
    waiting: HashMap<Subject, VecDeque<Login>>,
    len: usize,
    max: usize,
}

impl Lane {
    fn new(max: usize) -> Lane {
        Lane { turns: VecDeque::new(), waiting: HashMap::new(), len: 0, max }
    }

    fn ahead_of(&self, subject: Subject) -> usize {
        if self.waiting.contains_key(&subject) { self.len } else { self.turns.len() }
    }

    fn join(&mut self, login: Login) -> Option<Login> {
        let waiting = self.waiting.get_mut(&login.presented.subject);
        let Some(same) = waiting.and_then(|waiting| waiting.iter_mut().find(|other| other.is_same(&login)))
        else {
            return Some(login);
        };
        same.answers.retain(|answer| !answer.is_closed());
        same.answers.extend(login.answers);
        None
    }

    fn push(&mut self, login: Login, share: Share) -> Result<(), Full> {
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

    fn take_next(&mut self) -> Option<Login> {
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
    use crate::ids::{KeyId, ServerId};

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
            self.presented_by(Subject::Server(ServerId(server)))
        }

        fn presented_by(&self, subject: Subject) -> Presented {
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
        assert_eq!((queue.len(), queue.servers.waiting.len()), (0, 0));
    }

    #[test]
    fn keys_have_every_second_turn_and_places_of_their_own() {
        let mut world = World::new();
        let mut queue = LoginQueue::new(4);
        for number in 1..=4 {
            queue.push(world.login(number), Share::Whole).unwrap();
        }
        let key = |number| Subject::Key(KeyId(number));
        assert_eq!(queue.ahead_of(key(1)), 1, "one server at most");
        for subject in [key(1), Subject::Admin, key(2)] {
            let presented = world.presented_by(subject);
            queue.push(world.again(&presented), Share::Whole).unwrap();
        }
        assert_eq!((queue.len(), queue.ahead_of(key(3)), queue.ahead_of(key(1))), (7, 7, 7));
        assert_eq!(queue.ahead_of(Subject::Server(ServerId(9))), 7);
        let order: Vec<Subject> =
            std::iter::from_fn(|| queue.take_next().map(|login| login.presented.subject)).collect();
        let of_server = |number| Subject::Server(ServerId(number));
        let servers = [1, 2, 3, 4].map(of_server);
        assert_eq!(order, [servers[0], key(1), servers[1], Subject::Admin, servers[2], key(2), servers[3]]);
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
