//! Whether a text is a JSON object (RFC 8259) that any parser can read, without building it: numbers are in the range of a
//! double and no escape is half of a surrogate pair, as RFC 7493 has it. Never recurses, never allocates.

/// Levels of nesting allowed: what holds the text must stay readable for parsers with a bound of their own.
pub(super) const DEPTH_MAX: usize = 32;

/// True for one JSON object of at most [`DEPTH_MAX`] levels, with nothing but blanks around it.
pub(super) fn is_object(text: &str) -> bool {
    let mut scan = Scan { rest: text.as_bytes() };
    scan.blanks();
    scan.rest.first() == Some(&b'{') && scan.value().is_some() && scan.rest.is_empty()
}

/// What has to come next inside an object or array.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    /// A value.
    Value,
    /// A value, or the end of an array that has just begun.
    ValueOrEnd,
    /// A name, or the end of an object that has just begun.
    NameOrEnd,
    /// A comma, or the end of what is open.
    CommaOrEnd,
}

struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    /// One value and the blanks behind it; `None` when it is not well-formed or too deep.
    fn value(&mut self) -> Option<()> {
        // A bit for each open level, the innermost lowest: set for an object.
        let (mut open, mut depth, mut expect) = (0_u64, 0, Expect::Value);
        loop {
            self.blanks();
            let byte = *self.rest.first()?;
            let in_object = open & 1 == 1;
            match (expect, byte) {
                (Expect::Value | Expect::ValueOrEnd, b'{' | b'[') => {
                    self.rest = &self.rest[1..];
                    depth += 1;
                    open = open << 1 | u64::from(byte == b'{');
                    expect = if byte == b'{' { Expect::NameOrEnd } else { Expect::ValueOrEnd };
                    if depth > DEPTH_MAX {
                        return None;
                    }
                    continue;
                }
                (Expect::ValueOrEnd | Expect::CommaOrEnd, b']') if !in_object => {
                    self.close(&mut open, &mut depth)
                }
                (Expect::NameOrEnd | Expect::CommaOrEnd, b'}') if in_object => {
                    self.close(&mut open, &mut depth)
                }
                (Expect::CommaOrEnd, b',') => {
                    self.rest = &self.rest[1..];
                    self.blanks();
                    if in_object {
                        self.name()?;
                    }
                    expect = Expect::Value;
                    continue;
                }
                (Expect::NameOrEnd, b'"') => {
                    self.name()?;
                    expect = Expect::Value;
                    continue;
                }
                (Expect::Value | Expect::ValueOrEnd, _) => self.scalar(byte)?,
                _ => return None,
            }
            if depth == 0 {
                self.blanks();
                return Some(());
            }
            expect = Expect::CommaOrEnd;
        }
    }

    fn close(&mut self, open: &mut u64, depth: &mut usize) {
        self.rest = &self.rest[1..];
        *open >>= 1;
        *depth -= 1;
    }

    fn blanks(&mut self) {
        while let Some((b' ' | b'\t' | b'\n' | b'\r', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
    }

    fn name(&mut self) -> Option<()> {
        self.string()?;
        self.blanks();
        self.rest = self.rest.strip_prefix(b":")?;
        Some(())
    }

    fn scalar(&mut self, first: u8) -> Option<()> {
        match first {
            b'"' => return self.string(),
            b't' => self.rest = self.rest.strip_prefix(b"true")?,
            b'f' => self.rest = self.rest.strip_prefix(b"false")?,
            b'n' => self.rest = self.rest.strip_prefix(b"null")?,
            _ => return self.number(),
        }
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.rest = self.rest.strip_prefix(b"\"")?;
        loop {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => rest,
            b'u' => return self.code_point(rest),
            _ => return None,
        };
        Some(())
    }

    /// The digits of an escape, and the second half of a pair with the first.
    fn code_point(&mut self, digits: &'a [u8]) -> Option<()> {
        let (first, rest) = hex(digits)?;
        self.rest = match first {
            0xd800..0xdc00 => {
                let (second, rest) = hex(rest.strip_prefix(b"\\u")?)?;
                (0xdc00..0xe000).contains(&second).then_some(rest)?
            }
            0xdc00..0xe000 => return None,
            _ => rest,
        };
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let from = self.rest;
        self.rest = self.rest.strip_prefix(b"-").unwrap_or(self.rest);
        match self.rest.strip_prefix(b"0") {
            Some(rest) => self.rest = rest,
            None => self.digits()?,
        }
        if let Some(rest) = self.rest.strip_prefix(b".") {
            self.rest = rest;
            self.digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest.strip_prefix(b"+").or_else(|| rest.strip_prefix(b"-")).unwrap_or(rest);
            self.digits()?;
        }
        let number = std::str::from_utf8(&from[..from.len() - self.rest.len()]).ok()?;
        number.parse::<f64>().is_ok_and(f64::is_finite).then_some(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = &self.rest[count..];
        (count > 0).then_some(())
    }
}

/// Four hexadecimal digits, and what is behind them.
fn hex(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let all = digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| all)?;
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects_are_told_from_other_texts() {
        let good = [
            "{}",
            " {\"a\" : 1 , \"b\":[ ] ,\"c\":{}} ",
            "{\"a\":[1e308,-1e-400,\"\\ud83d\\udE00\\ud7ff\\ue000\"]}",
            "{\"a\":[1,-0.5e+3,\"\\u00e9\\n\",true,false,null,{\"b\":[[]]}]}",
        ];
        for text in good {
            assert!(is_object(text), "{text}");
        }
        let bad = [
            "",
            "[]",
            "1",
            "\"a\"",
            "{",
            "}",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":[1,]}",
            "{} {}",
            "{\"a\":01}",
            "{\"a\":.5}",
            "{\"a\":1.}",
            "{\"a\":+1}",
            "{\"a\":1e}",
            "{\"a\":\"\t\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":1e309}",
            "{\"a\":-1E+400}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\\udc00\"}",
            "{\"a\":\"\\ud800\\ud800\"}",
            "{\"a\":\"\\ud800 \\udc00\"}",
            "{\"a\":\"\\ud83d\\u\"}",
            "{\"\\udfff\":1}",
            "{\"a\":tru}",
            "{a:1}",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":[1}}",
            "{\"a\":{]}",
        ];
        for text in bad {
            assert!(!is_object(text), "{text}");
        }
        let nested =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(is_object(&nested(DEPTH_MAX)));
        assert!(!is_object(&nested(DEPTH_MAX + 1)));
    }

    proptest! {
        /// Texts of JSON's own characters, so that many are nearly right.
        #[test]
        fn agrees_with_serde_json(inner in "[{}\\[\\],:\"0-9acdeCD.+\\- tru\\\\]{0,16}") {
            for text in [inner.clone(), format!("{{{inner}}}"), format!("{{\"a\":{inner}}}"), format!("{{\"a\":[{inner}]}}")] {
                let expected = serde_json::from_str::<serde_json::Value>(&text).is_ok()
                    && text.trim_start().starts_with('{');
                prop_assert_eq!(is_object(&text), expected, "{}", text);
            }
        }
    }
}
