//! Values as people type them: spans of time, instants, JSON objects. Each error names the form that is expected.

use std::time::Duration;

use crate::limits;

/// A span: a number of seconds, or a number with one of the units ms, s, m, h, d.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return Err("expected a whole number with a unit of ms, s, m, h or d, for example 10m".into()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a whole number of seconds, or for example 10m")?;
    let ms = number.checked_mul(factor).filter(|ms| *ms <= limits::AHEAD_MS_MAX);
    ms.map(Duration::from_millis).ok_or_else(|| "at most 366d".into())
}

/// An instant in RFC 3339, for example `2030-01-31T12:00:00Z`, given on in its canonical form.
pub(crate) fn instant(text: &str) -> Result<String, String> {
    text.parse::<jiff::Timestamp>()
        .map(|at| at.to_string())
        .map_err(|error| format!("expected a time such as 2030-01-31T12:00:00Z: {error}"))
}

/// A JSON object.
pub(crate) fn object(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(value),
        Ok(_) => Err("expected a JSON object, for example {\"basket\": 7}".into()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_a_bound() {
        assert_eq!(span("90"), Ok(Duration::from_secs(90)));
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(span("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(span("366d"), Ok(Duration::from_secs(366 * 24 * 3600)));
        for text in ["", "-1", "1.5", "10 m", "m", "367d", "99999999999999999999", "1w"] {
            assert!(span(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn instants_are_rfc_3339() {
        assert_eq!(instant("2030-01-31T12:00:00+02:00"), Ok("2030-01-31T10:00:00Z".into()));
        assert!(instant("2030-01-31").is_err());
        assert!(instant("tomorrow").is_err());
    }

    #[test]
    fn metadata_is_an_object() {
        assert!(object("{\"a\":1}").is_ok());
        assert!(object("[1]").is_err());
        assert!(object("{").is_err());
    }
}
