//! The vocabulary that several resources share, as JSON spells it: times, players, statuses, notes.

use std::borrow::Cow;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::engine::{Note, Player, Status};
use crate::time::UnixMs;

/// A point in time: RFC 3339, given in UTC with milliseconds, taken with any offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) UnixMs);

impl Time {
    /// Reads RFC 3339. A time before 1970 is none.
    pub(super) fn read(text: &str) -> Option<Time> {
        let moment: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(moment.as_millisecond()).ok().map(|ms| Time(UnixMs(ms)))
    }

    /// What a time has to look like, for errors.
    pub(super) const RANGE: &str = "RFC 3339 with an offset, for example 2026-01-31T12:00:00Z";
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let moment = i64::try_from(self.0.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        // The year 9999 is the last that the text form has.
        serializer.collect_str(&format_args!("{:.3}", moment.unwrap_or(jiff::Timestamp::MAX)))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Time::read(&text).ok_or_else(|| D::Error::custom(format_args!("expected {}", Time::RANGE)))
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples([serde_json::json!("2026-01-31T12:00:00.000Z")])
            .into()
    }
}

impl ToSchema for Time {}

/// A player. Names compare without regard to ASCII case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Player)]
pub(super) struct PlayerBody {
    /// As the server knows the player.
    #[schema(min_length = 1, max_length = 64, example = "Steve")]
    pub(super) name: String,
    /// With or without hyphens; given back with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid", example = "8667ba71-b85a-4004-af54-457a9734eed7")]
    pub(super) uuid: Option<Uuid>,
}

impl From<&Player> for PlayerBody {
    fn from(player: &Player) -> PlayerBody {
        PlayerBody { name: player.name.to_string(), uuid: player.uuid.map(Uuid) }
    }
}

/// A player, or only the name of one: plugins often know no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlayerOrName(pub(super) PlayerBody);

impl<'de> Deserialize<'de> for PlayerOrName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PlayerOrName, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = PlayerBody;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a player's name or an object with `name` and `uuid`")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<PlayerBody, E> {
                Ok(PlayerBody { name: name.to_owned(), uuid: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<PlayerBody, A::Error> {
                PlayerBody::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        deserializer.deserialize_any(Either).map(PlayerOrName)
    }
}

impl PartialSchema for PlayerOrName {
    fn schema() -> RefOr<Schema> {
        let name = ObjectBuilder::new().schema_type(Type::String).description(Some("Only the name."));
        let player = Ref::from_schema_name(PlayerBody::name());
        OneOfBuilder::new().item(player).item(name).into()
    }
}

impl ToSchema for PlayerOrName {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((PlayerBody::name().into_owned(), PlayerBody::schema()));
        PlayerBody::schemas(schemas);
    }
}

/// A UUID: 32 hexadecimal digits, hyphens or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uuid(pub(super) u128);

impl Uuid {
    /// Reads both usual forms, in any case.
    pub(super) fn read(text: &str) -> Option<Uuid> {
        let hyphens: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
        let digits = match hyphens.as_slice() {
            [] => Cow::Borrowed(text),
            [8, 13, 18, 23] => Cow::Owned(text.replace('-', "")),
            _ => return None,
        };
        let plain = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| u128::from_str_radix(&digits, 16).ok()).flatten().map(Uuid)
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = format!("{:032x}", self.0);
        serializer.collect_str(&format_args!(
            "{}-{}-{}-{}-{}",
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..]
        ))
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Uuid::read(&text).ok_or_else(|| {
            D::Error::custom("expected a UUID, for example 8667ba71-b85a-4004-af54-457a9734eed7")
        })
    }
}

/// Where a command is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CommandStatus {
    /// Waits for its server, its time, its predecessor or its retry.
    Pending,
    /// Handed to the plugin, no result yet.
    Delivered,
    /// Waits for its player to come online.
    AwaitingPlayer,
    /// The plugin confirmed that it ran.
    Completed,
    /// All tries failed; can be resent.
    Failed,
    /// Started, and nobody can say whether it ran; can be resent.
    InDoubt,
    /// Withdrawn before it ran.
    Cancelled,
    /// `expires_at` passed before it ran.
    Expired,
}

impl CommandStatus {
    /// All, in the order of their ordinals.
    pub(super) const ALL: [CommandStatus; 8] = [
        CommandStatus::Pending,
        CommandStatus::Delivered,
        CommandStatus::AwaitingPlayer,
        CommandStatus::Completed,
        CommandStatus::Failed,
        CommandStatus::InDoubt,
        CommandStatus::Cancelled,
        CommandStatus::Expired,
    ];

    /// Reads a name.
    pub(super) fn read(text: &str) -> Option<CommandStatus> {
        CommandStatus::ALL.into_iter().find(|status| status.text() == text)
    }

    /// The name.
    pub(super) fn text(self) -> &'static str {
        match self {
            CommandStatus::Pending => "pending",
            CommandStatus::Delivered => "delivered",
            CommandStatus::AwaitingPlayer => "awaiting_player",
            CommandStatus::Completed => "completed",
            CommandStatus::Failed => "failed",
            CommandStatus::InDoubt => "in_doubt",
            CommandStatus::Cancelled => "cancelled",
            CommandStatus::Expired => "expired",
        }
    }
}

impl From<Status> for CommandStatus {
    fn from(status: Status) -> CommandStatus {
        CommandStatus::ALL[status as usize - 1]
    }
}

impl From<CommandStatus> for Status {
    fn from(status: CommandStatus) -> Status {
        match status {
            CommandStatus::Pending => Status::Pending,
            CommandStatus::Delivered => Status::Delivered,
            CommandStatus::AwaitingPlayer => Status::AwaitingPlayer,
            CommandStatus::Completed => Status::Completed,
            CommandStatus::Failed => Status::Failed,
            CommandStatus::InDoubt => Status::InDoubt,
            CommandStatus::Cancelled => Status::Cancelled,
            CommandStatus::Expired => Status::Expired,
        }
    }
}

/// Why a status was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Note)]
pub(super) enum NoteCode {
    /// The plugin reported a failure; a retry is scheduled.
    RetryScheduled,
    /// The last retry failed.
    RetriesExhausted,
    /// Delivered many times without any answer.
    Unanswered,
    /// The connection was lost before an answer; offered again.
    ConnectionLost,
    /// The ack deadline passed; offered again.
    AckDeadline,
    /// The plugin says that the player is not online.
    PlayerAbsent,
    /// The player joined.
    PlayerJoined,
    /// An operator asked for it.
    Operator,
    /// The server was removed.
    ServerRemoved,
    /// Started before a crash; safe to repeat by its rule.
    Rerun,
    /// The plugin holds it from an earlier connection.
    StillHeld,
    /// A result came after the command had left `delivered`.
    LateResult,
    /// The broker restarted while it was out.
    BrokerRestarted,
    /// The plugin cannot vouch for it.
    PluginInDoubt,
}

/// The code of a note; `None` says nothing.
pub(super) fn note_code(note: Note) -> Option<NoteCode> {
    Some(match note {
        Note::None => return None,
        Note::RetryScheduled => NoteCode::RetryScheduled,
        Note::RetriesExhausted => NoteCode::RetriesExhausted,
        Note::Unanswered => NoteCode::Unanswered,
        Note::ConnectionLost => NoteCode::ConnectionLost,
        Note::AckDeadline => NoteCode::AckDeadline,
        Note::PlayerAbsent => NoteCode::PlayerAbsent,
        Note::PlayerJoined => NoteCode::PlayerJoined,
        Note::Operator => NoteCode::Operator,
        Note::ServerRemoved => NoteCode::ServerRemoved,
        Note::Rerun => NoteCode::Rerun,
        Note::StillHeld => NoteCode::StillHeld,
        Note::LateResult => NoteCode::LateResult,
        Note::BrokerRestarted => NoteCode::BrokerRestarted,
        Note::PluginInDoubt => NoteCode::PluginInDoubt,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        let at = Time::read("2026-01-31T13:00:00.5+01:00").unwrap();
        assert_eq!(serde_json::to_string(&at).unwrap(), "\"2026-01-31T12:00:00.500Z\"");
        assert_eq!(serde_json::to_string(&Time(UnixMs(0))).unwrap(), "\"1970-01-01T00:00:00.000Z\"");
        for text in ["", "2026-01-31", "2026-01-31T12:00:00", "1969-12-31T23:59:59Z", "1769860800000"] {
            assert_eq!(Time::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_time_beyond_the_calendar_is_still_text() {
        assert!(serde_json::to_string(&Time(UnixMs(u64::MAX))).unwrap().starts_with("\"9999-"));
    }

    #[test]
    fn uuids_come_in_two_forms_and_leave_in_one() {
        let uuid = Uuid::read("8667ba71b85a4004af54457a9734eed7").unwrap();
        assert_eq!(Uuid::read("8667BA71-b85a-4004-af54-457a9734eed7"), Some(uuid));
        assert_eq!(serde_json::to_string(&uuid).unwrap(), "\"8667ba71-b85a-4004-af54-457a9734eed7\"");
        for text in ["", "8667ba71", "+667ba71b85a4004af54457a9734eed7", "8667ba71-b85a4004af54457a9734eed7"]
        {
            assert_eq!(Uuid::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_player_may_be_a_name_alone() {
        let read = serde_json::from_str::<Vec<PlayerOrName>>;
        let both =
            read(r#"["Steve", {"name": "Alex", "uuid": "8667ba71b85a4004af54457a9734eed7"}]"#).unwrap();
        assert_eq!(both[0].0, PlayerBody { name: "Steve".into(), uuid: None });
        assert_eq!(both[1].0.uuid, Uuid::read("8667ba71b85a4004af54457a9734eed7"));
        assert!(read(r#"[{"name": "Alex", "nick": "A"}]"#).is_err());
        assert!(read("[1]").is_err());
    }

    #[test]
    fn statuses_read_back() {
        for status in CommandStatus::ALL {
            assert_eq!(CommandStatus::read(status.text()), Some(status));
            assert_eq!(CommandStatus::from(Status::from(status)), status);
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("{:?}", status.text()));
        }
        assert_eq!(CommandStatus::read("Pending"), None);
    }
}
