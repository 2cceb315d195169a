//! The relay's process: what comes from a publisher goes to the server's socket in the same turn. It keeps nothing but what no
//! socket has taken yet.
//!
//! ```text
//! publisher: 'P', then records: server u32, length u16, text     ◀─ a '+' for each
//! consumer:  'C', server u32                                     ◀─ records: length u16, text
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// Bytes before a record's text, from a publisher and to a consumer.
const PUBLISHED_HEAD: usize = 6;
const DELIVERED_HEAD: usize = 2;

/// What the first byte of a connection says.
pub(super) const PUBLISHER: u8 = b'P';
/// See [`PUBLISHER`].
pub(super) const CONSUMER: u8 = b'C';
/// What a publisher hears for each record.
pub(super) const TAKEN: u8 = b'+';

/// Appends a record as a publisher sends it.
pub(super) fn put_published(server: u32, text: &str, out: &mut BytesMut) {
    out.put_u32_le(server);
    put_delivered(text.as_bytes(), out);
}

fn put_delivered(text: &[u8], out: &mut BytesMut) {
    out.put_u16_le(u16::try_from(text.len()).expect("the generator's texts are of 4 KiB at most"));
    out.put_slice(text);
}

/// Takes the next record as a consumer receives it; `None` = it is not whole yet.
pub(super) fn take_delivered(input: &mut BytesMut) -> Option<Bytes> {
    let length = usize::from(u16::from_le_bytes(input.get(..DELIVERED_HEAD)?.try_into().ok()?));
    if input.len() < DELIVERED_HEAD + length {
        return None;
    }
    input.advance(DELIVERED_HEAD);
    Some(input.split_to(length).freeze())
}

fn take_published(input: &mut BytesMut) -> Option<(u32, Bytes)> {
    let length = usize::from(u16::from_le_bytes(input.get(4..PUBLISHED_HEAD)?.try_into().ok()?));
    if input.len() < PUBLISHED_HEAD + length {
        return None;
    }
    let server = input.get_u32_le();
    input.advance(DELIVERED_HEAD);
    Some((server, input.split_to(length).freeze()))
}

/// A server: its socket while it is connected, and what that has not taken.
#[derive(Default)]
struct Server {
    outbox: Mutex<Outbox>,
    /// Told when the socket is full.
    full: Notify,
}

#[derive(Default)]
struct Outbox {
    socket: Option<Arc<TcpStream>>,
    waiting: BytesMut,
}

impl Server {
    /// Writes as much as the socket takes now; its own task sees to the rest.
    fn flush(&self) {
        let outbox = &mut *self.outbox.lock();
        let Some(socket) = &outbox.socket else { return };
        while !outbox.waiting.is_empty() {
            match socket.try_write(&outbox.waiting) {
                Ok(count) => outbox.waiting.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.full.notify_one(),
                // The task that reads from it learns of that, too, and ends it.
                Err(_) => return,
            }
        }
    }
}

/// Those that anything was published for, or that have connected.
#[derive(Default)]
struct Servers(Mutex<HashMap<u32, Arc<Server>>>);

impl Servers {
    fn server(&self, number: u32) -> Arc<Server> {
        Arc::clone(self.0.lock().entry(number).or_default())
    }
}

/// Serves at this port until it is killed.
pub(super) async fn serve(port: u16) -> io::Result<Infallible> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let servers = Arc::new(Servers::default());
    loop {
        let (socket, _) = listener.accept().await?;
        // A connection that ends takes nothing else with it.
        tokio::spawn(connection(socket, Arc::clone(&servers)));
    }
}

async fn connection(mut socket: TcpStream, servers: Arc<Servers>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    match socket.read_u8().await? {
        PUBLISHER => publisher(socket, &servers).await,
        CONSUMER => {
            let server = servers.server(socket.read_u32_le().await?);
            consumer(socket, &server).await
        }
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("a connection began with {other}"))),
    }
}

async fn publisher(mut socket: TcpStream, servers: &Servers) -> io::Result<()> {
    let mut known: HashMap<u32, Arc<Server>> = HashMap::new();
    let (mut input, mut taken) = (BytesMut::new(), BytesMut::new());
    let mut touched: Vec<u32> = Vec::new();
    loop {
        input.reserve(READ_BYTES);
        if socket.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        while let Some((number, text)) = take_published(&mut input) {
            let server = known.entry(number).or_insert_with(|| servers.server(number));
            put_delivered(&text, &mut server.outbox.lock().waiting);
            touched.push(number);
            taken.put_u8(TAKEN);
        }
        // What came together for one server goes in one write.
        touched.sort_unstable();
        touched.dedup();
        touched.drain(..).for_each(|number| known[&number].flush());
        socket.write_all_buf(&mut taken).await?;
    }
}

async fn consumer(socket: TcpStream, server: &Server) -> io::Result<()> {
    let socket = Arc::new(socket);
    server.outbox.lock().socket = Some(Arc::clone(&socket));
    server.flush();
    let ended = async {
        loop {
            socket.readable().await?;
            match socket.try_read(&mut [0; 64]) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                // It has nothing to say; or it was not readable after all.
                _ => {}
            }
        }
    };
    let writing = async {
        loop {
            server.full.notified().await;
            socket.writable().await?;
            server.flush();
        }
    };
    let end = tokio::select! {
        end = ended => end,
        end = writing => end,
    };
    let mut outbox = server.outbox.lock();
    if outbox.socket.as_ref().is_some_and(|current| Arc::ptr_eq(current, &socket)) {
        outbox.socket = None;
    }
    end
}
