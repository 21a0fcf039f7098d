//! What opens a pool's servers, and what the upstream thinks of it.

use parking_lot::Mutex;

use super::Refusal;
use crate::upstream::{AuthMethod, Credential};

/// How this pool's user logs in upstream: what the last client that logged in proved.
#[derive(Debug)]
pub(super) struct Credentials(Mutex<(Credential, Standing)>);

/// What the upstream thinks of a credential.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// Not tried yet: one login alone finds out, so that a wrong one is one failure upstream (trap 69).
    Untried,
    /// By what it asked for.
    Accepted(AuthMethod),
    /// The password was changed since a client proved it. What is connected stays, as in PostgreSQL; nothing more is
    /// opened with it until a client proves another.
    Refused(Refusal),
}

impl Credentials {
    pub(super) fn new(credential: Credential) -> Self {
        Self(Mutex::new((credential, Standing::Untried)))
    }

    /// Proved a moment ago.
    pub(super) fn set(&self, credential: &Credential) {
        let mut current = self.0.lock();
        if current.0 != *credential || matches!(current.1, Standing::Refused(_)) {
            // ## (Untried | Accepted | Refused) => Untried
            *current = (credential.clone(), Standing::Untried);
        }
    }

    /// What the upstream thinks of it has to be found out again.
    pub(super) fn doubt(&self) {
        // ## (Untried | Accepted | Refused) => Untried
        self.0.lock().1 = Standing::Untried;
    }

    pub(super) fn get(&self) -> Credential {
        self.0.lock().0.clone()
    }

    /// How it was accepted, if this is still the one.
    pub(super) fn accepted(&self, used: &Credential) -> Option<AuthMethod> {
        match &*self.0.lock() {
            (current, Standing::Accepted(method)) if current == used => Some(*method),
            _ => None,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        self.0.lock().1.clone()
    }

    /// What came of a login with `used`, if that is still the one.
    pub(super) fn judge(&self, used: &Credential, standing: Standing) {
        let mut current = self.0.lock();
        if current.0 == *used {
            // ## (Untried | Accepted) => (Accepted | Refused)
            current.1 = standing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Password;

    fn password(text: &str) -> Credential {
        Credential::Password(Password::new(text))
    }

    fn refused() -> Standing {
        Standing::Refused(Refusal::Upstream(bytes::Bytes::new()))
    }

    #[test]
    fn trap_69_what_was_refused_is_not_tried_again_until_it_is_proved_again() {
        let credentials = Credentials::new(password("old"));
        credentials.judge(&password("old"), refused());
        assert!(matches!(credentials.standing(), Standing::Refused(_)));
        credentials.set(&password("old"));
        assert!(matches!(credentials.standing(), Standing::Untried));
        credentials.judge(&password("old"), Standing::Accepted(AuthMethod::ScramSha256));
        credentials.set(&password("old"));
        let accepted = credentials.accepted(&password("old"));
        assert_eq!(accepted, Some(AuthMethod::ScramSha256), "proving the same again changes nothing");
        assert_eq!(credentials.accepted(&password("new")), None, "of another nothing is known");
    }

    #[test]
    fn trap_64_a_verdict_on_another_credential_does_not_count() {
        let credentials = Credentials::new(password("old"));
        credentials.set(&password("new"));
        credentials.judge(&password("old"), refused());
        assert!(matches!(credentials.standing(), Standing::Untried));
        assert_eq!(credentials.get(), password("new"));
    }
}
