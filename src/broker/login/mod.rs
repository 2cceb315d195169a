//! Who may log in, and how many at once: what is remembered, the queue for password hashes, failed logins, tickets.
//!
//! ```text
//! ticket ── opens, generation still right? ──▶ in                                   (about a microsecond)
//! token ─── tag right? ─┬─ no ───────────────────────────────▶ failed ──▶ network over its limit? come back later
//!                       └─ remembered? ─┬─ right ──▶ in           ▲
//!                                       ├─ wrong ─────────────────┤
//!                                       └─ no ─▶ queue ─▶ hash ───┘ or in; no room or no time ─▶ come back later
//! ```
//! What must stay true: nothing but a right tag gets into the queue; servers have their turns there one after the other, and
//! keys beside them;
//! a failed login, however often, never keeps out a right one of the same server or network.

mod calendar;
mod counts;
mod failures;
mod origin;
mod pool;
mod queue;
mod tickets;
mod verified;

pub use counts::LoginCounts;
pub use failures::FailedLoginLimit;
pub(super) use failures::Failures;
pub use origin::{Network, Origin};
pub(super) use pool::{LoginPool, PoolOptions};
pub(super) use tickets::Tickets;
