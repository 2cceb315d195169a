//! The names of the small files of a data directory that hold secrets.

/// The data key. Without it no token is valid.
pub const SECRET_FILE: &str = "secret.key";
/// The admin key in plain text; it may be removed once the key is noted.
pub const ADMIN_FILE: &str = "admin.key";
/// The keys of resume tickets. A backup has none: tickets of another past must not be valid again.
pub const TICKET_KEYS_FILE: &str = "tickets.key";
/// The keys of TLS sessions. A backup has none, as of tickets.
pub const SESSION_KEYS_FILE: &str = "tls-sessions.key";
/// The certificate that the broker made for itself.
pub const TLS_CERT_FILE: &str = "tls-self-signed.crt";
/// Its private key.
pub const TLS_KEY_FILE: &str = "tls-self-signed.key";
