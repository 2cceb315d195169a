//! Any bytes as what somebody shows at the door: a token, a resume ticket, the file with the tickets' keys, a URL's query,
//! the head of a hello. Nothing but what was given out, byte for byte, is accepted, and no text repeats a secret.

use std::path::PathBuf;
use std::sync::LazyLock;

use fluxrelay::credentials::{
    DataKey, KeysFound, RandomPart, Sealer, Secret, Subject, TICKET_KEYS_FILE, TicketClaim, TicketKeys,
    credential_parameter, redacted,
};
use fluxrelay::ids::{KeyId, ServerId};
use fluxrelay::limits::FRAME_BYTES_MAX;
use fluxrelay::protocol::{HelloHead, Request};
use fluxrelay::time::{Millis, UnixMs};

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const TICKET_LIFETIME: Millis = Millis::seconds(3600);
/// Alphanumeric characters in a row that have the form of a secret.
const SECRET_CHARS: usize = 32;

/// A data directory with everything that it ever gave out.
struct House {
    data_key: DataKey,
    sealer: Sealer,
    tokens: Vec<(Subject, Secret)>,
    keys: TicketKeys,
    claim: TicketClaim,
    tickets: Vec<Vec<u8>>,
    key_file: Vec<u8>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(TICKET_KEYS_FILE);
    let data_key = DataKey::generate();
    let sealer = Sealer::new(&data_key);
    let subjects = [Subject::Server(ServerId(12)), Subject::Key(KeyId(3)), Subject::Admin];
    let seal = |subject| (subject, sealer.seal(subject, &RandomPart::generate()));
    let tokens = subjects.map(seal).into();
    let claim = TicketClaim { server: ServerId(12), generation: 3, expires_at: NOW + TICKET_LIFETIME };
    let (first, _) = TicketKeys::open(&file, &data_key, NOW);
    let keys = first.rotated(NOW);
    let tickets = [&first, &keys].map(|keys| keys.seal(claim).reveal().to_vec()).into();
    keys.write(&file).expect("a writable folder");
    let key_file = std::fs::read(&file).expect("it was written");
    House { data_key, sealer, tokens, keys, claim, tickets, key_file, file, _folder: folder }
});

/// Panics if `data`, or what it makes of something that was given out, is taken for what it is not.
pub(crate) fn check_login(data: &[u8]) {
    let Some((&form, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    match form % 8 {
        0 => text_as_token(&text),
        1 => changed_token(data),
        2 => bytes_as_ticket(data),
        3 => changed_ticket(data),
        4 => key_file(data),
        5 => said_again(&text),
        6 => hello(data),
        _ => drop(credential_parameter(Some(&text))),
    }
}

/// Applies edits of three bytes each: what to do, where, with which byte.
fn edited(original: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(edit[1]) % (bytes.len() + 1);
        match edit[0] % 4 {
            0 => bytes.insert(at, edit[2]),
            1 => bytes.truncate(at),
            _ if at == bytes.len() => bytes.push(edit[2]),
            2 => drop(bytes.remove(at)),
            _ => bytes[at] = edit[2],
        }
    }
    bytes
}

/// The fuzzer sees what is compared, so it does find what was given out.
fn text_as_token(text: &str) {
    let given_out = HOUSE.tokens.iter().any(|(_, token)| token.reveal() == text);
    assert_eq!(HOUSE.sealer.open(text).is_some(), given_out, "exactly what was given out is taken");
}

fn bytes_as_ticket(data: &[u8]) {
    let given_out = HOUSE.tickets.iter().any(|ticket| ticket == data);
    assert_eq!(HOUSE.keys.open_ticket(data, NOW).is_some(), given_out, "exactly what was given out is taken");
}

fn changed_token(data: &[u8]) {
    let Some((&which, edits)) = data.split_first() else { return };
    let (subject, token) = &HOUSE.tokens[usize::from(which) % HOUSE.tokens.len()];
    let shown = edited(token.reveal().as_bytes(), edits);
    let shown = String::from_utf8_lossy(&shown);
    let opened = HOUSE.sealer.open(&shown).map(|presented| presented.subject);
    assert_eq!(opened, (*shown == *token.reveal()).then_some(*subject), "exactly the token is taken");
}

fn changed_ticket(data: &[u8]) {
    let Some((&which, edits)) = data.split_first() else { return };
    let ticket = &HOUSE.tickets[usize::from(which) % HOUSE.tickets.len()];
    let shown = edited(ticket, edits);
    let good = (shown == *ticket).then_some(HOUSE.claim);
    assert_eq!(HOUSE.keys.open_ticket(&shown, NOW), good, "exactly the ticket is taken");
    assert_eq!(HOUSE.keys.open_ticket(&shown, HOUSE.claim.expires_at), None, "and not for ever");
}

fn key_file(edits: &[u8]) {
    let bytes = edited(&HOUSE.key_file, edits);
    std::fs::write(&HOUSE.file, &bytes).expect("a writable folder");
    let (keys, found) = TicketKeys::open(&HOUSE.file, &HOUSE.data_key, NOW);
    let whole = bytes == HOUSE.key_file;
    assert_eq!(found, if whole { KeysFound::Kept } else { KeysFound::Damaged });
    for ticket in &HOUSE.tickets {
        assert_eq!(keys.open_ticket(ticket, NOW), whole.then_some(HOUSE.claim));
    }
}

fn said_again(text: &str) {
    let has_form =
        |text: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word.len() >= SECRET_CHARS);
    assert!(!has_form(&redacted(text)), "no text repeats a secret");
    let (_, token) = &HOUSE.tokens[0];
    let secret = token.reveal().split_once('.').expect("a subject and a secret").1;
    let around = format!("{text}{}{text}", token.reveal());
    assert!(!redacted(&around).contains(secret), "no text repeats a secret");
}

/// What the beginning of a hello tells is what the whole of it says.
fn hello(data: &[u8]) {
    let head = HelloHead::of(data);
    let whole = match Request::decode(data, FRAME_BYTES_MAX) {
        Ok(Some((Request::PluginHello(hello), _))) => HelloHead::Plugin(hello.credential),
        Ok(Some((Request::PublisherHello(hello), _))) => HelloHead::Publisher(hello.credential),
        _ => return,
    };
    assert_eq!(head, Some(whole));
}
