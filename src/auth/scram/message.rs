//! The text of SCRAM's messages, taken apart (RFC 5802 §7).

use crate::error::{PgError, SqlState};

/// The longest nonce taken from anybody, in bytes; libpq and PostgreSQL send 24 each.
pub(super) const NONCE_BYTES_MAX: usize = 1024;

/// `name=value` parts between commas.
pub(super) struct Attributes<'a>(std::str::Split<'a, char>);

impl<'a> Attributes<'a> {
    pub(super) fn of(message: &'a str) -> Self {
        Self(message.split(','))
    }

    /// The value of the next attribute, if that is its name.
    pub(super) fn value(&mut self, name: char) -> Option<&'a str> {
        self.0.next()?.strip_prefix(name)?.strip_prefix('=')
    }
}

/// `n,,n=user,r=nonce`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst<'a> {
    pub(super) flag: Flag,
    /// `n,,` and the like, which the client has to repeat under its proof.
    pub(super) gs2_header: &'a str,
    pub(super) bare: &'a str,
    pub(super) nonce: &'a str,
}

/// What a client says of channel binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// `n`: it cannot.
    No,
    /// `y`: it can, but believes that the server cannot.
    Could,
    /// `p=tls-server-end-point`
    EndPoint,
}

impl<'a> ClientFirst<'a> {
    /// # Errors
    /// As PostgreSQL's `read_client_first_message`.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, PgError> {
        let message = utf8(message)?;
        let (flag, rest) = match message.split_once(',') {
            Some(("n", rest)) => (Flag::No, rest),
            Some(("y", rest)) => (Flag::Could, rest),
            Some(("p=tls-server-end-point", rest)) => (Flag::EndPoint, rest),
            Some((other, _)) if other.starts_with("p=") => return Err(violation("unsupported SCRAM channel-binding type")),
            _ => return Err(malformed("Unexpected channel-binding flag.")),
        };
        if rest.starts_with("a=") {
            return Err(unsupported("client uses authorization identity, but it is not supported"));
        }
        let bare = rest.strip_prefix(',').ok_or_else(|| malformed("Comma expected, but found something else."))?;
        if bare.starts_with("m=") {
            return Err(unsupported("client requires an unsupported SCRAM extension"));
        }
        let mut attributes = Attributes::of(bare);
        attributes.value('n').ok_or_else(|| malformed("Attribute \"n\" expected."))?;
        let nonce = attributes.value('r').ok_or_else(|| malformed("Attribute \"r\" expected."))?;
        if !is_nonce(nonce) {
            return Err(violation("non-printable characters in SCRAM nonce"));
        }
        Ok(Self { flag, gs2_header: &message[..message.len() - bare.len()], bare, nonce })
    }
}

/// `c=biws,r=nonce,p=proof`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFinal<'a> {
    pub(super) without_proof: &'a str,
    pub(super) binding: &'a str,
    pub(super) nonce: &'a str,
    pub(super) proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, PgError> {
        let message = utf8(message)?;
        // The proof is base64 and comes last: there is no comma behind it.
        let (without_proof, proof) =
            message.rsplit_once(",p=").ok_or_else(|| malformed("Attribute \"p\" expected as the last one."))?;
        let mut attributes = Attributes::of(without_proof);
        let binding = attributes.value('c').ok_or_else(|| malformed("Attribute \"c\" expected."))?;
        let nonce = attributes.value('r').ok_or_else(|| malformed("Attribute \"r\" expected."))?;
        Ok(Self { without_proof, binding, nonce, proof })
    }
}

/// Printable, not empty, and no longer than [`NONCE_BYTES_MAX`].
pub(super) fn is_nonce(nonce: &str) -> bool {
    (1..=NONCE_BYTES_MAX).contains(&nonce.len()) && nonce.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b',')
}

pub(super) fn malformed(detail: &'static str) -> PgError {
    violation("malformed SCRAM message").with_detail(detail)
}

pub(super) fn violation(message: &'static str) -> PgError {
    PgError::fatal(SqlState::PROTOCOL_VIOLATION, message)
}

fn unsupported(message: &'static str) -> PgError {
    PgError::fatal(SqlState::FEATURE_NOT_SUPPORTED, message)
}

fn utf8(message: &[u8]) -> Result<&str, PgError> {
    if message.is_empty() {
        return Err(malformed("The message is empty."));
    }
    let text = std::str::from_utf8(message).map_err(|_| malformed("The message is not UTF-8."))?;
    if text.contains('\0') {
        return Err(malformed("Message length does not match input length."));
    }
    Ok(text)
}
