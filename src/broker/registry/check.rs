//! Checking credentials and giving out tickets. A forged tag is refused at once; all else is equal in answer and time.
//!
//! What must stay true: a credential counts for the generation that readers see when the check ends, so that a
//! regenerated token takes everything of the old one with it.

use std::sync::Arc;

use super::{ADMIN_KEY, AuthError, Principal, Registry, Server};
use crate::broker::login::{Network, Origin};
use crate::credentials::{Presented, SecretHash, Subject, Ticket};
use crate::ids::ServerId;
use crate::time::UnixMs;

impl Registry {
    /// Checks a server's token.
    ///
    /// A token may be regenerated between this check and the session that rests on it: after opening the session,
    /// compare the server's generation with [`Registry::server`]'s once more.
    ///
    /// # Errors
    /// `Invalid` for unknown and wrong alike, or `Limited` in its place; `Busy` when too many logins wait.
    pub async fn check_token(&self, token: &str, origin: Origin) -> Result<Arc<Server>, AuthError> {
        let presented = self.open_credential(token, origin)?;
        let Subject::Server(id) = presented.subject else { return Err(self.refuse_form(origin)) };
        let record = self.directory.server(id);
        let generation = record.as_ref().map_or(0, |record| record.server.generation);
        self.check_secret(presented, generation, record.map(|record| record.hash.clone()), origin).await?;
        // The token may have been regenerated while its hash was computed.
        let server = self.server(id).filter(|server| server.generation == generation);
        let server = server.ok_or(AuthError::Invalid)?;
        self.logins.counters().by_token.rise();
        Ok(server)
    }

    /// Checks an API key (admin's included).
    ///
    /// # Errors
    /// `Invalid` for unknown and wrong alike, or `Limited` in its place; `Busy` when too many logins wait.
    pub async fn check_key(&self, key: &str, origin: Origin) -> Result<Principal, AuthError> {
        let presented = self.open_credential(key, origin)?;
        let id = match presented.subject {
            Subject::Key(id) => id,
            Subject::Admin => ADMIN_KEY,
            Subject::Server(_) => return Err(self.refuse_form(origin)),
        };
        let record = self.directory.key(id);
        // A key has one secret for its whole life.
        let generation = u32::from(record.is_some());
        self.check_secret(presented, generation, record.map(|record| record.hash.clone()), origin).await?;
        let key = self.directory.key(id).ok_or(AuthError::Invalid)?.key.clone();
        self.logins.counters().by_token.rise();
        Ok(Principal { key: Some(id).filter(|id| *id != ADMIN_KEY), scope: key.scope, store: key.store })
    }

    /// Checks a server's resume ticket; if that is of no use, its token, if there is one. A ticket costs no hash, and
    /// what is said at [`Registry::check_token`] of regenerated tokens holds here too.
    ///
    /// # Errors
    /// As [`Registry::check_token`].
    pub async fn check_ticket(
        &self,
        ticket: &[u8],
        token: Option<&str>,
        origin: Origin,
    ) -> Result<Arc<Server>, AuthError> {
        let claim = self.tickets.open_ticket(ticket);
        let server = claim.and_then(|claim| {
            self.server(claim.server).filter(|server| server.generation == claim.generation)
        });
        match (server, token) {
            (Some(server), _) => {
                self.logins.counters().by_ticket.rise();
                Ok(server)
            }
            (None, token) => {
                self.logins.counters().tickets_refused.rise();
                match token {
                    Some(token) => self.check_token(token, origin).await,
                    None => Err(self.refuse(origin)),
                }
            }
        }
    }

    /// Whether so many logins of a network failed that one more would be over its limit.
    pub fn is_suspect(&self, network: Network) -> bool {
        self.failures.is_over(network, (self.clock)())
    }

    /// A resume ticket for a server whose credential of this generation was checked, and when half of its time is over: to
    /// be replaced from then on. `None` when tickets are switched off.
    pub fn give_ticket(&self, server: ServerId, generation: u32) -> Option<(Ticket, UnixMs)> {
        self.tickets.give(server, generation)
    }

    /// Whether a server's token has the right tag, so that it was given out by this broker at some time. Says nothing
    /// about whether it is valid, costs a microsecond and is not counted.
    pub fn is_plausible_token(&self, token: &str) -> bool {
        matches!(self.sealer.open(token), Some(Presented { subject: Subject::Server(_), .. }))
    }

    /// As [`Registry::is_plausible_token`], for an API key.
    pub fn is_plausible_key(&self, key: &str) -> bool {
        matches!(self.sealer.open(key), Some(Presented { subject: Subject::Key(_) | Subject::Admin, .. }))
    }

    fn open_credential(&self, text: &str, origin: Origin) -> Result<Presented, AuthError> {
        self.sealer.open(text).ok_or_else(|| self.refuse_form(origin))
    }

    fn refuse_form(&self, origin: Origin) -> AuthError {
        self.logins.counters().forged.rise();
        self.refuse(origin)
    }

    /// Charges a failed login to its network.
    fn refuse(&self, origin: Origin) -> AuthError {
        match self.failures.charge(origin.network, (self.clock)()) {
            Ok(()) => AuthError::Invalid,
            Err(retry_after_ms) => {
                self.logins.counters().limited.rise();
                AuthError::Limited { retry_after_ms }
            }
        }
    }

    async fn check_secret(
        &self,
        presented: Presented,
        generation: u32,
        hash: Option<SecretHash>,
        origin: Origin,
    ) -> Result<(), AuthError> {
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let suspect = self.is_suspect(origin.network);
        match self.logins.check(presented, generation, hash, origin.within, suspect).await {
            Ok(right) if right && exists => Ok(()),
            Ok(_) => {
                self.logins.counters().wrong.rise();
                Err(self.refuse(origin))
            }
            Err(busy) => Err(AuthError::Busy { retry_after_ms: busy.retry_after_ms }),
        }
    }
}
