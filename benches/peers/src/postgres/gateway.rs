//! The gateway: what publishers have brought is inserted in one statement, what is due is deleted in one transaction, run,
//! and committed.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fluxrelay::load::Runner;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use super::client::Client;
use super::wire::{put_number, put_numbers, put_texts};

/// Rows of one statement at most.
const INSERT_MAX: usize = 2048;
const DELETE_MAX: i64 = 2048;
/// A look for what nobody told of: rows that were there before.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

const INSERT: &str = "INSERT INTO commands (server, text) SELECT * FROM unnest($1::int4[], $2::text[])";
/// The oldest rows that no other connection has.
const DELETE: &str = "
    WITH due AS MATERIALIZED (SELECT ctid FROM commands ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
    DELETE FROM commands USING due WHERE commands.ctid = due.ctid RETURNING server, text";

type Answer = oneshot::Sender<Result<(), String>>;

/// What its tasks share.
pub(super) struct Gateway {
    queue: Mutex<Vec<Entry>>,
    /// There is something to insert.
    brought: Notify,
    /// There is something to delete.
    inserted: Notify,
    deleting: watch::Sender<bool>,
}

/// An order that waits to be inserted.
struct Entry {
    commands: Vec<(usize, String)>,
    answer: Answer,
}

impl Default for Gateway {
    fn default() -> Gateway {
        Gateway {
            queue: Mutex::default(),
            brought: Notify::new(),
            inserted: Notify::new(),
            deleting: watch::channel(false).0,
        }
    }
}

impl Gateway {
    /// Queues an order; the answer comes when its transaction is durable.
    pub(super) fn insert(&self, order: &[(usize, String)]) -> oneshot::Receiver<Result<(), String>> {
        let (answer, answered) = oneshot::channel();
        self.queue.lock().push(Entry { commands: order.to_vec(), answer });
        self.brought.notify_one();
        answered
    }

    pub(super) fn start_deleting(&self) {
        self.deleting.send_replace(true);
    }

    pub(super) fn stop_deleting(&self) {
        self.deleting.send_replace(false);
    }

    /// Takes orders of so many commands, or a little more.
    fn take(&self) -> Vec<Entry> {
        let mut queue = self.queue.lock();
        let mut commands = 0;
        let count = queue.iter().take_while(|entry| {
            let is_more = commands < INSERT_MAX;
            commands += entry.commands.len();
            is_more
        });
        let count = count.count();
        queue.drain(..count).collect()
    }
}

/// Inserts on one connection as long as anything is brought.
pub(super) async fn inserting(gateway: Arc<Gateway>, mut client: Client) {
    if let Err(reason) = client.prepare(INSERT).await {
        anstream::eprintln!("the gateway cannot insert: {reason}");
        return;
    }
    loop {
        let taken = gateway.take();
        if taken.is_empty() {
            gateway.brought.notified().await;
            // Whoever else is about to publish goes first: what is brought together is inserted together.
            tokio::task::yield_now().await;
            continue;
        }
        // The rest is for the next connection.
        gateway.brought.notify_one();
        let commands: Vec<&(usize, String)> = taken.iter().flat_map(|entry| &entry.commands).collect();
        let parameters = |out: &mut BytesMut| {
            put_numbers(out, commands.iter().map(|(server, _)| *server as i32));
            put_texts(out, commands.iter().map(|(_, text)| text.as_str()));
        };
        let answer = client.run(2, parameters, |_, _| ()).await;
        gateway.inserted.notify_waiters();
        // Who does not wait any more is not told.
        taken.into_iter().for_each(|entry| drop(entry.answer.send(answer.clone())));
    }
}

/// Deletes on one connection, and has what it deletes run by its runner of that server: each connection has runners of its own,
/// since it commits when it commits. Says why it ended, unless it is to be
/// quiet.
pub(super) async fn deleting<R: Runner>(
    gateway: Arc<Gateway>,
    mut client: Client,
    mut runners: Vec<R>,
    quiet: bool,
) {
    let mut going = gateway.deleting.subscribe();
    if going.wait_for(|going| *going).await.is_err() {
        return;
    }
    let work = async {
        client.prepare(DELETE).await?;
        client.query("BEGIN").await?;
        loop {
            let inserted = gateway.inserted.notified();
            let count = delete(&mut client, &mut runners).await?;
            if count == 0 {
                // Either way there is a look.
                let _ = tokio::time::timeout(LOOK_INTERVAL, inserted).await;
            }
        }
    };
    let ended: Result<(), String> = work.await;
    if let Err(reason) = ended
        && !quiet
    {
        anstream::eprintln!("a connection of the gateway ended: {reason}");
    }
}

/// One transaction: rows out, run, commit. Begins the next one in the same message. Gives the number of rows.
async fn delete<R: Runner>(client: &mut Client, runners: &mut [R]) -> Result<usize, String> {
    let mut rows: Vec<(usize, String)> = Vec::new();
    let row = |server, text| rows.push((server as usize, text));
    client.run(1, |out| put_number(out, DELETE_MAX), row).await?;
    rows.iter().for_each(|(server, text)| runners[*server].run(std::iter::once(text.as_str())));
    client.query("COMMIT; BEGIN").await?;
    rows.iter().for_each(|(server, _)| runners[*server].confirmed(1));
    Ok(rows.len())
}
