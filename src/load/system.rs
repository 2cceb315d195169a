//! What a system has to do to be measured, and what the generator does with what comes out of it.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use super::usage::Usage;

/// A system under test: keeps commands for servers, each known by its index from 0, and hands them to their consumers.
pub trait System {
    /// A connection that publishes.
    type Publisher: Publisher;
    /// The connected consumers; they disconnect when it is dropped.
    type Consumers;
    /// What its own calls fail with.
    type Error: From<Unexpected>;

    /// How many servers it has.
    fn servers(&self) -> usize;

    /// Connects publishers: so many, each for so many orders in flight at most.
    ///
    /// # Errors
    /// A connection could not be made.
    fn publishers(
        &self,
        connections: u32,
        in_flight: u32,
    ) -> impl Future<Output = Result<Vec<Self::Publisher>, Self::Error>>;

    /// Connects a consumer for each server, with a runner of its own. None receives anything before [`System::go`].
    ///
    /// # Errors
    /// A connection could not be made.
    fn consumers<R: Runner>(
        &self,
        quiet: bool,
        runner: impl FnMut() -> R,
    ) -> impl Future<Output = Result<Self::Consumers, Self::Error>>;

    /// Lets all consumers receive from now on.
    ///
    /// # Errors
    /// A consumer is gone.
    fn go(&self, consumers: &Self::Consumers) -> Result<(), Self::Error>;

    /// CPU and memory of all its processes so far; `None` where they are not known.
    fn usage(&self) -> Option<Usage>;

    /// Bytes of its files; `None` as for [`System::usage`].
    fn disk_bytes(&self) -> Option<u64>;

    /// Ends consumers at once, as if their processes had died.
    fn cut(&self, consumers: Self::Consumers) {
        drop(consumers);
    }

    /// `kill -9` of all its processes; they are gone when this returns. Blocks.
    ///
    /// # Errors
    /// It is not the generator's own to kill.
    fn kill(&mut self) -> Result<(), Self::Error>;

    /// Starts a killed one on the same data and port: how long until it serves. Blocks.
    ///
    /// # Errors
    /// It did not come back.
    fn restart(&mut self) -> Result<Duration, Self::Error>;
}

/// A connection that publishes; a clone is the same connection.
pub trait Publisher: Clone + Send + Sync + 'static {
    /// Commands to be published together, made once however often they are sent.
    type Order: Send + Sync;

    /// An order of commands, each a server and one line of text of the generator's. The system may use `key` to know it
    /// again when it is sent once more.
    fn order(&self, key: Option<String>, commands: impl Iterator<Item = (usize, String)>) -> Self::Order;

    /// Turns an order of one command to another server.
    fn aim(&self, order: &mut Self::Order, server: usize);

    /// Publishes; done when the system has answered that all commands of the order are durable, as it understands that.
    ///
    /// # Errors
    /// It did not take the order, or nobody knows whether it did.
    fn publish(&self, order: &Self::Order) -> impl Future<Output = Result<(), Refused>> + Send;
}

/// A server, as the system's consumer sees it: runs everything at once. Called on a task of the consumer: never blocks.
pub trait Runner: Send + 'static {
    /// The server has these texts and has run them; what comes after this call is their acknowledgement.
    fn run<'t>(&mut self, texts: impl Iterator<Item = &'t str>);

    /// The system has confirmed so many acknowledgements more, in the order in which the commands were run: these will not
    /// come again. Where a system confirms none, they count as confirmed when they are sent.
    fn confirmed(&mut self, count: u64);
}

/// An order that was not acknowledged.
#[derive(Debug, Clone)]
pub struct Refused {
    /// It was not taken, for load: when to send it again.
    pub retry_after: Option<Duration>,
    /// Why, in words.
    pub reason: String,
}

/// Something was not as it must be: one sentence.
#[derive(Debug, Clone)]
pub struct Unexpected(pub String);

impl fmt::Display for Unexpected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Unexpected {
    /// An error unless none of these is missing and none came twice.
    pub(super) fn unless_whole(missing: u64, twice: u64) -> Result<(), Unexpected> {
        if missing + twice == 0 {
            return Ok(());
        }
        Err(Unexpected(format!("{missing} commands are missing, {twice} came twice")))
    }
}
