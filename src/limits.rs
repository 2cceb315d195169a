//! Every fixed bound, with its unit and its reason, and the relations between them.
//!
//! What an operator may change is a setting (`config/mod.rs`); what stands here is part of the contract.

/// Shards in one process; also the stride of [`crate::ids::Seq`], so it is part of the disk format.
pub const SHARDS_MAX: u16 = 64;

/// Bytes of one frame before login: a hello with a token and nothing that a stranger could inflate.
pub const FRAME_BYTES_MAX_BEFORE_LOGIN: usize = 4 * 1024;
/// Bytes of one frame after login.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one command's text.
pub const COMMAND_BYTES_MAX: usize = 4 * 1024;
/// Commands in one order, after `"*"` is expanded.
pub const ORDER_COMMANDS_MAX: usize = 10_000;
/// Bytes of an idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Bytes of an order's reference.
pub const REFERENCE_BYTES_MAX: usize = 255;
/// Bytes of a player's name (Bedrock names behind a proxy prefix are longer than Java's 16).
pub const PLAYER_NAME_BYTES_MAX: usize = 64;
/// Bytes of a command's stage label.
pub const STAGE_BYTES_MAX: usize = 64;
/// Bytes of a command's metadata (JSON text).
pub const METADATA_BYTES_MAX: usize = 2 * 1024;
/// Bytes of an error text kept from a result; a longer one is cut at a character border.
pub const ERROR_BYTES_MAX: usize = 1024;
/// Bytes of an output text kept from a result; a longer one is cut at a character border.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a server's or store's name.
pub const NAME_BYTES_MAX: usize = 100;
/// Bytes of a server's address.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// Furthest `not_before`, `delay_seconds` or `expires_at` ahead of now, in milliseconds: one year, the wheel's span.
pub const AHEAD_MS_MAX: u64 = 366 * 24 * 3600 * 1000;

/// Commands delivered and unanswered on one connection, at most.
pub const WINDOW_MAX: u32 = 4096;
/// Commands in one deliver frame, one poll answer or one turn of a server in the dispatch ring.
pub const DELIVER_COMMANDS_MAX: usize = 256;
/// Bytes of command texts in one deliver frame or poll answer; one command always fits.
pub const DELIVER_BYTES_MAX: usize = 128 * 1024;
/// Results in one batch.
pub const RESULTS_MAX: usize = 1024;
/// Ids in one list of a hello; a plugin that holds more lists the oldest.
pub const HELLO_IDS_MAX: usize = 8 * 1024;
/// Players in one full set.
pub const PLAYERS_MAX: usize = 10_000;
/// History entries kept of one command: the first, and the latest of the rest.
pub const HISTORY_MAX: usize = 64;
/// Commands in one page of a listing.
pub const PAGE_MAX: usize = 1000;
/// Bytes of a REST body.
pub const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// Seconds' worth of calls or commands that a caller may spend at once after a pause; the rates are settings.
pub const RATE_BURST_SECONDS: u64 = 2;

/// Stores in one data directory.
pub const STORES_MAX: usize = 100_000;
/// Servers in one data directory: each costs about 400 bytes of memory, and its queue.
pub const SERVERS_MAX: usize = 1_000_000;
/// Servers in one store, so that no store takes all places.
pub const SERVERS_PER_STORE_MAX: usize = 100_000;
/// Servers registered in one call.
pub const SERVERS_PER_CALL_MAX: usize = 10_000;
/// API keys in one data directory.
pub const KEYS_MAX: usize = 200_000;
/// API keys in one store.
pub const KEYS_PER_STORE_MAX: usize = 1000;
/// Records of the audit trail (about 250 bytes each on disk); the oldest go first.
pub const AUDIT_ROWS_MAX: usize = 1_000_000;
/// Records of the audit trail that one store's keys take, so that none can push the others' out of it.
pub const AUDIT_ROWS_PER_STORE_MAX: usize = 100_000;
/// Records of the audit trail that one page looks at: about 10 ms.
pub const AUDIT_ROWS_READ_MAX: usize = 10_000;
/// Records of the audit trail that one transaction removes at the end of their time.
pub const AUDIT_ROWS_REMOVED_MAX: usize = 5_000;
/// Changes of the registry that wait for its writer; more make their callers wait.
pub const REGISTRY_CHANGES_WAITING_MAX: usize = 256;
/// Changes of the registry in one transaction.
pub const REGISTRY_CHANGES_PER_COMMIT_MAX: usize = 256;
/// Logins of servers that wait for a password hash, and logins with keys, per hashing thread: at 16 ms each the last one waits for 4 s, less than
/// the 5 s that a login may take; while hashes are slower, fewer are let in.
pub const LOGINS_WAITING_PER_THREAD_MAX: usize = 256;
/// Different credentials of one server or key that wait for a password hash. Each server has its turn, so more of them
/// would only wait for one another; one is the right one, the others are tokens of earlier generations.
pub const LOGINS_WAITING_PER_SUBJECT_MAX: usize = 4;
/// The longest time that a login which is sent away is asked to wait, in milliseconds. When more are sent away than there are
/// moments, the others come back sooner and are sent away again, each time for another handshake; but nobody is away for
/// long from a broker that was stopped meanwhile, or that others do not come back to.
pub const LOGIN_RETRY_AFTER_MS_MAX: u64 = 120_000;
/// Logins that were sent away and have a moment of their own to come back. Others get one at random.
pub const LOGIN_PLACES_MAX: usize = 65_536;
/// New credentials whose hash is being made; more make their callers wait.
pub const HASHES_MAKING_MAX: usize = 64;
/// Servers and keys whose right credential is remembered, so that it costs no second password hash (about 64 bytes
/// each). Each has one, so nobody can push out another's with many.
pub const CREDENTIALS_REMEMBERED_MAX: usize = 131_072;
/// Servers and keys of which wrong credentials are remembered, so that they cost no second password hash (about 200 bytes
/// each). Apart from the right ones, which wrong ones therefore cannot push out.
pub const WRONG_SUBJECTS_REMEMBERED_MAX: usize = 16_384;
/// Wrong credentials that are remembered of one server or key.
pub const WRONG_CREDENTIALS_PER_SUBJECT_MAX: usize = 8;
/// Counters of failed logins (8 bytes each). Networks share one when there are more, which costs them nothing but clear
/// answers to wrong credentials.
pub const FAILED_LOGIN_COUNTERS: usize = 65_536;
/// A key of resume tickets is current for so long, then for as long the one before it: one day.
pub const TICKET_KEY_ROTATION_MS: u64 = 24 * 3600 * 1000;
/// Bytes of a resume ticket, as a client sees it: room for later forms of it.
pub const TICKET_BYTES_MAX: usize = 255;
/// Most hours that a resume ticket may last: its key is alive for so long after the last ticket that was sealed with it.
pub const TICKET_HOURS_MAX: u64 = 24;

/// Sockets without a place that are told so at once; more are closed without a word.
pub const REFUSALS_AT_ONCE_MAX: usize = 64;

/// Bytes of a PEM file with certificates or a key: a system's whole bundle of roots has a quarter of a megabyte.
pub const PEM_BYTES_MAX: usize = 4 * 1024 * 1024;
/// TLS bytes that wait in a connection for its peer: what is beyond waits, counted, in the connection's own buffer.
pub const TLS_UNSENT_BYTES_MAX: usize = 16 * 1024;
/// TLS sessions that one client remembers for resumption: those of one broker.
pub const TLS_SESSIONS_KEPT: usize = 8;
/// A key of TLS session tickets is current for so long, then for as long the one before it: a session can be resumed for one
/// day, and by no means for more than two.
pub const TLS_SESSION_KEY_ROTATION_MS: u64 = 24 * 3600 * 1000;
/// While both wait, so many turns for TLS handshakes go to clients with a session of ours before one goes to a stranger. A flood
/// of strangers then takes the returning no more than an eighth of the doors; and clients that all come back at once,
/// or one that has a session and shows it again and again, do not shut out new servers.
pub const RETURNING_TURNS: usize = 7;
/// Bytes of a client's first message that are looked at for its session before it has its turn: one of ours that comes back has a
/// third of that. In longer ones, and in those of which only a part has come, no session is seen.
pub const HELLO_BYTES_SEEN: usize = 2048;
/// Bytes of a TLS session ticket: a session's secret, its server's name and protocol.
pub const TLS_TICKET_BYTES_MAX: usize = 1024;

/// TLS handshakes over TCP that have their turn at once, for each thread at the doors: enough to keep it busy while peers a few
/// dozen milliseconds away answer. Each more is begun earlier and ended later; of a thousand at once most would be given up
/// unfinished in a storm, after most of their work was done.
pub const TURNS_PER_DOOR_THREAD: usize = 64;
/// Of these, turns of strangers whose network is over its limit of failed logins, while clients wait that were here before. Whoever
/// finds none free is told at once, and in clear text, that access is denied: a flood of guesses then does not keep back those
/// who only lost their connection. It is so for the seconds of a storm and not longer: others of such a network are right.
pub const SUSPECT_TURNS_PER_DOOR_THREAD: usize = 1;
/// Milliseconds after which a turn is over, finished or not. Turns that end so (640 a second for each thread, with the above)
/// have to be fewer than handshakes that a core can do, or in a storm there would be no end of beginning; and enough
/// that peers far away, or some that begin and do not go on, do not keep the others waiting for long.
pub const TURN_MS_MAX: u64 = 100;
/// A socket waits for its turn so many times `login_timeout_seconds` at most, which is no part of these. Whoever is sent away
/// then comes back after its client's own wait, at the end of the line, and both have worked for nothing: so not before
/// the line is longer than a client waits. With the time after it, it is as long as ours do.
pub const TURN_WAIT_LIMITS: u32 = 2;

/// QUIC streams that a client may have open at a time: the one with its frames. One more ends its connection.
pub const QUIC_STREAMS_MAX: u32 = 1;
/// Bytes in flight on a QUIC connection in each direction: what a peer may send unread, and what waits to be confirmed.
pub const QUIC_WINDOW_BYTES: u32 = 256 * 1024;
/// QUIC handshakes and logins under way at once; one more is not answered, and its client asks again.
pub const QUIC_LOGINS_MAX: usize = 4096;
/// Of them, how many may begin from addresses that nobody has proved: beyond, a client has to come back with a token that
/// was sent to its address (Retry), so that forged addresses take no place.
pub const QUIC_LOGINS_UNPROVED_MAX: usize = 256;
/// First packets of QUIC connections that wait to be looked at.
pub const QUIC_INCOMING_MAX: usize = 1024;
/// Bytes that one of them may bring before it is looked at, beyond its first packet.
pub const QUIC_INCOMING_BYTES_MAX: u64 = 16 * 1024;
/// Bytes that all of them may bring.
pub const QUIC_INCOMING_BYTES_TOTAL_MAX: u64 = 4 * 1024 * 1024;
/// The longest time in milliseconds without a packet after which a QUIC connection ends by itself.
pub const QUIC_IDLE_MS_MAX: u32 = 120_000;
/// Bytes of datagrams that wait in the system for the one UDP socket of all QUIC connections.
pub const QUIC_SOCKET_BYTES: usize = 4 * 1024 * 1024;

// A core does two to four thousand handshakes a second.
const _: () = assert!(TURNS_PER_DOOR_THREAD as u64 * 1000 / TURN_MS_MAX <= 1000);
const _: () = assert!(QUIC_LOGINS_UNPROVED_MAX < QUIC_LOGINS_MAX);
const _: () = assert!(QUIC_WINDOW_BYTES as usize > FRAME_BYTES_MAX_BEFORE_LOGIN);
const _: () = assert!(DELIVER_BYTES_MAX >= COMMAND_BYTES_MAX);
const _: () = assert!(DELIVER_BYTES_MAX + DELIVER_COMMANDS_MAX * 512 < FRAME_BYTES_MAX);
const _: () = assert!(WINDOW_MAX as usize >= DELIVER_COMMANDS_MAX);
const _: () = assert!(WINDOW_MAX as usize <= HELLO_IDS_MAX);
const _: () = assert!(SERVERS_PER_STORE_MAX <= SERVERS_MAX && SERVERS_PER_CALL_MAX <= SERVERS_PER_STORE_MAX);
const _: () = assert!(KEYS_PER_STORE_MAX <= KEYS_MAX);
const _: () = assert!(TICKET_HOURS_MAX * 3600 * 1000 <= TICKET_KEY_ROTATION_MS);
const _: () = assert!(AUDIT_ROWS_PER_STORE_MAX <= AUDIT_ROWS_MAX && AUDIT_ROWS_READ_MAX >= PAGE_MAX);

/// Most mebibytes that may be kept free on the disk of the data directory: one tebibyte.
pub const DISK_RESERVE_MIB_MAX: u64 = 1024 * 1024;

/// Milliseconds that a commit waits for a mirror that does not answer; then the mirror is given up.
pub const MIRROR_WAIT_MS_MAX: u64 = 10_000;
/// Bytes of writes to a mirror's file that are gathered before its thread gets them.
pub const MIRROR_BATCH_BYTES: usize = 1024 * 1024;
/// Such batches that wait for the thread.
pub const MIRROR_BATCHES_MAX: usize = 8;

/// Findings that a check of a data directory names; more are only counted.
pub const CHECK_FINDINGS_MAX: usize = 1000;
/// Days after which an ended command or an order may be gone, at the least: the lowest `retention_days`.
pub const RETENTION_DAYS_MIN: u64 = 7;
