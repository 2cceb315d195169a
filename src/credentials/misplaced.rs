//! Credentials where they do not belong: in URLs, which end in logs and histories, and in the words of an error. What
//! is found is never repeated.

use std::borrow::Cow;

use super::random::RANDOM_CHARS;
use super::token::TAG_CHARS;

/// Characters of a secret.
const SECRET_CHARS: usize = RANDOM_CHARS + TAG_CHARS;
/// Query parameters under which careless clients send secrets.
const PARAMETERS: [&str; 9] =
    ["token", "key", "access_token", "api_key", "apikey", "auth", "authorization", "secret", "ticket"];
/// What stands in a text in place of a secret.
const STAND_IN: &str = "[secret]";

/// What to tell whoever sent a credential in a URL.
pub const IN_URL: &str = "a credential never belongs in a URL: URLs end in logs and histories: treat it as leaked, \
    make a new one, and send that as the header `Authorization: Bearer <key>`";

/// The parameter of a query under which a credential is sent, if there is one.
pub fn credential_parameter(query: Option<&str>) -> Option<&'static str> {
    let names = query.unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next());
    names.map(decoded).find_map(|name| {
        PARAMETERS.into_iter().find(|parameter| name.eq_ignore_ascii_case(parameter.as_bytes()))
    })
}

/// The bytes that a name in a query stands for.
fn decoded(name: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = name.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    while let Some((first, rest)) = bytes.split_first() {
        let pair = (*first == b'%').then(|| digit(rest.first()).zip(digit(rest.get(1)))).flatten();
        match pair {
            Some((high, low)) => {
                decoded.push((high * 16 + low) as u8);
                bytes = &rest[2..];
            }
            None => {
                decoded.push(*first);
                bytes = rest;
            }
        }
    }
    decoded
}

/// The text without anything that may hold a secret: an error that repeats what was sent must not repeat that, not even
/// with something stuck to it.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let is_secret = |word: &&str| word.len() >= SECRET_CHARS;
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    if !words.any(|word| is_secret(&word)) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let word = &rest[start..];
        let end = word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len());
        clean.push_str(&rest[..start]);
        clean.push_str(if is_secret(&&word[..end]) { STAND_IN } else { &word[..end] });
        rest = &word[end..];
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{DataKey, RandomPart, Sealer, Subject};

    #[test]
    fn a_credential_in_a_url_is_found_by_the_name_of_its_parameter() {
        for (query, name) in [
            ("token=x", "token"),
            ("a=1&Access_Token=x", "access_token"),
            ("key", "key"),
            ("limit=3&api_key=", "api_key"),
            ("%74ok%65n=x", "token"),
            ("%54ICKET=x", "ticket"),
        ] {
            assert_eq!(credential_parameter(Some(query)), Some(name), "{query}");
        }
        for query in [None, Some(""), Some("limit=3&cursor=token"), Some("keys=1"), Some("%7=1&%zz&%")] {
            assert_eq!(credential_parameter(query), None, "{query:?}");
        }
    }

    #[test]
    fn no_text_repeats_a_secret() {
        let token = Sealer::new(&DataKey::generate()).seal(Subject::Admin, &RandomPart::generate());
        let secret = token.reveal().split_once('.').unwrap().1;
        for text in [
            format!("no store {:?} is visible", token.reveal()),
            secret.to_owned(),
            format!("{secret} {secret}"),
            format!("invalid type: string \"x\u{fc}.{secret}\", expected u8"),
        ] {
            let clean = redacted(&text);
            assert!(!clean.contains(secret), "{clean}");
            assert_eq!(clean, text.replace(secret, STAND_IN));
        }
        let stuck = format!("no store \"x{secret}y\" is visible");
        assert_eq!(redacted(&stuck), "no store \"[secret]\" is visible");
        for text in ["", "no server srv_7", "8667ba71-b85a-4004-af54-457a9734eed7", &"x".repeat(31)] {
            assert!(matches!(redacted(text), Cow::Borrowed(same) if same == text));
        }
    }
}
