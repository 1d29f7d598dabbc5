//! The types of setting values, with their text forms and placeholders.

use std::{fmt, num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

use uuid::Uuid;

/// A value that is parsed from a flag, a variable or a file.
pub trait Value: Sized {
    /// Its placeholder in `--help`.
    const KIND: &'static str;
    /// Parses it, or returns a message with the expected form.
    fn parse(text: &str) -> Result<Self, String>;
    /// Formats it so that it can be parsed again; empty if it is unset.
    fn show(&self) -> String;
}

impl<V: Value> Value for Option<V> {
    const KIND: &'static str = V::KIND;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { V::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map(V::show).unwrap_or_default()
    }
}

impl<V: Value> Value for Vec<V> {
    const KIND: &'static str = V::KIND;

    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(V::parse).collect()
    }

    fn show(&self) -> String {
        self.iter().map(V::show).collect::<Vec<_>>().join(",")
    }
}

impl Value for bool {
    const KIND: &'static str = "BOOL";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "it must be true or false".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const KIND: &'static str = "TEXT";

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() { Err("it must not be empty".to_owned()) } else { Ok(text.to_owned()) }
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "PATH";

    fn parse(text: &str) -> Result<Self, String> {
        String::parse(text).map(Self::from)
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for Uuid {
    const KIND: &'static str = "UUID";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "it must be a UUID".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for NonZeroU32 {
    const KIND: &'static str = "N";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "it must be a whole number from 1".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The host part, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let ip: Result<std::net::IpAddr, _> = self.host().parse();
        ip.map_or_else(|_| self.host() == "localhost", |ip| ip.is_loopback())
    }

    /// Whether it means every address of this machine, and so none to others.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.host().parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not an address: it must be HOST:PORT, as 127.0.0.1:4750 or [::1]:4750");
        if text.contains("//") {
            return Err(wrong());
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || (host.contains(':') && !bracketed) || host.contains(char::is_whitespace) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
}

impl Value for Address {
    const KIND: &'static str = "HOST:PORT";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Duration {
    const KIND: &'static str = "TIME";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "it must be a time with its unit, as 500ms, 5s, 2m or 1h".to_owned();
        let (number, unit) = split_unit(text);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let seconds = match unit {
            "ms" => number / 1_000.0,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3_600.0,
            "d" => number * 86_400.0,
            _ => return Err(wrong()),
        };
        Self::try_from_secs_f64(seconds).map_err(|_| wrong())
    }

    fn show(&self) -> String {
        let millis = self.as_millis();
        if millis.is_multiple_of(1_000) { format!("{}s", millis / 1_000) } else { format!("{millis}ms") }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Value for Size {
    const KIND: &'static str = "SIZE";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "it must be a size in bytes, as 65536, 64KiB, 16MiB or 1GiB".to_owned();
        let (number, unit) = split_unit(text);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }

    fn show(&self) -> String {
        match self.0 {
            0 => "0".to_owned(),
            n if n % (1 << 30) == 0 => format!("{}GiB", n >> 30),
            n if n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
            n if n % (1 << 10) == 0 => format!("{}KiB", n >> 10),
            n => n.to_string(),
        }
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Value for LogFormat {
    const KIND: &'static str = "text|json";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("it must be text or json".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<V: Value + fmt::Debug>(text: &str, shown: Option<&str>) {
        let got = V::parse(text).map(|value| value.show()).ok();
        assert_eq!(got.as_deref(), shown, "{text}");
    }

    #[test]
    fn durations_need_a_unit() {
        check::<Duration>("500ms", Some("500ms"));
        check::<Duration>("5s", Some("5s"));
        check::<Duration>("1.5s", Some("1500ms"));
        check::<Duration>("2m", Some("120s"));
        check::<Duration>("5", None);
        check::<Duration>("-5s", None);
        check::<Duration>("1e400s", None);
    }

    #[test]
    fn sizes_without_a_unit_are_bytes() {
        check::<Size>("65536", Some("64KiB"));
        check::<Size>("64KiB", Some("64KiB"));
        check::<Size>("1 GiB", Some("1GiB"));
        check::<Size>("1kb", Some("1000"));
        check::<Size>("99999999999999GiB", None);
        check::<Size>("64 parsecs", None);
    }

    #[test]
    fn addresses_are_host_and_port() {
        check::<Address>("127.0.0.1:4750", Some("127.0.0.1:4750"));
        check::<Address>("[::1]:4750", Some("[::1]:4750"));
        check::<Address>("::1:4750", None);
        check::<Address>("localhost", None);
        check::<Address>("http://localhost:4750", None);
        check::<Address>("localhost:70000", None);
        let address = |text| Address::parse(text).unwrap();
        assert!(address("[::1]:1").is_loopback() && address("localhost:1").is_loopback());
        assert!(address("0.0.0.0:1").is_wildcard() && !address("0.0.0.0:1").is_loopback());
        assert!(!address("10.0.0.1:1").is_loopback() && !address("10.0.0.1:1").is_wildcard());
    }

    #[test]
    fn lists_are_joined_by_commas() {
        check::<Vec<Address>>("a:1, b:2", Some("a:1,b:2"));
        check::<Vec<Address>>("", Some(""));
        check::<Vec<Address>>("a:1,b", None);
    }
}
