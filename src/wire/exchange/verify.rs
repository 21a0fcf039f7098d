//! Development mode: after each transaction the server is asked for everything, and what no text had shown is told with the
//! texts that ran.

use super::super::params::Params;
use super::super::probe;
use super::super::sql::{Leaves, Scope, Touched, for_log};
use super::{ClientSide, Place, ServerSide, Startup};

/// Statements named in one report.
const TEXTS_MAX: usize = 16;

/// State that the scan of the texts did not foresee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    pub kinds: Leaves,
    /// Names of settings.
    pub settings: Vec<Box<str>>,
    /// What ran since it was looked at last, without literals.
    pub statements: Vec<Box<str>>,
}

#[derive(Debug, Default)]
pub(super) enum Verifier {
    #[default]
    Nothing,
    /// These texts ran.
    Ran(Vec<Box<str>>),
    /// The server was asked; what is foreseen.
    Asked {
        texts: Vec<Box<str>>,
        leaves: Leaves,
        touched: Touched,
    },
    Missed(Box<Missed>),
}

impl ClientSide {
    /// What it leaves on its servers is compared with what its texts show.
    #[must_use]
    pub fn verified(mut self) -> Self {
        self.aside().verifier = Some(Verifier::default());
        self
    }

    #[inline]
    pub fn is_verified(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.verifier.is_some())
    }

    pub(super) fn verifier(&mut self) -> Option<&mut Verifier> {
        self.aside.as_mut()?.verifier.as_mut()
    }

    /// A text is run.
    #[inline]
    pub(super) fn ran(&mut self, text: &[u8]) {
        if let Some(verifier) = self.verifier() {
            verifier.ran(text);
        }
    }

    pub(super) fn take_missed(&mut self) -> Option<Box<Missed>> {
        let verifier = self.verifier()?;
        match std::mem::take(verifier) {
            // ## Missed => Nothing
            Verifier::Missed(missed) => Some(missed),
            other => {
                *verifier = other;
                None
            }
        }
    }
}

impl ServerSide {
    /// Asks an idle server for all there may be, if anything ran since it was asked last. Whether it did.
    pub fn verify(&mut self, client: &mut ClientSide, to_server: &mut Vec<u8>) -> bool {
        let foreseen = self.leaves | self.pins;
        // While its channels are on their way, the server is the pooler's.
        let may = matches!(client.place(), Place::Here | Place::Away) && matches!(client.verifier(), Some(Verifier::Ran(_)));
        // Defaults are restored first.
        if !may || foreseen.has(Leaves::RESETS) {
            return false;
        }
        // What may be anything is cleaned away whole.
        if foreseen.has(Leaves::HIDDEN) {
            client.verifier().into_iter().for_each(Verifier::give_up);
            return false;
        }
        let touched = client.take_touched().unwrap_or_default();
        if let Some(verifier) = client.verifier() {
            verifier.ask(foreseen, touched.clone());
        }
        self.leaves = self.leaves.without(Leaves::ASKABLE);
        self.pins |= Leaves::ASKABLE;
        self.put_question(probe::ask_all(touched, &client.settings), to_server);
        true
    }
}

impl Verifier {
    /// ## (Nothing | Ran) => Ran
    fn ran(&mut self, text: &[u8]) {
        if let Self::Nothing = self {
            *self = Self::Ran(Vec::new());
        }
        if let Self::Ran(texts) = self
            && texts.len() < TEXTS_MAX
        {
            texts.push(for_log(text).into());
        }
    }

    /// ## Ran => Asked
    fn ask(&mut self, leaves: Leaves, touched: Touched) {
        if let Self::Ran(texts) = std::mem::take(self) {
            *self = Self::Asked { texts, leaves, touched };
        }
    }

    /// ## (Ran | Asked) => Nothing
    pub(super) fn give_up(&mut self) {
        *self = Self::Nothing;
    }

    /// ## Asked => (Missed | Nothing)
    pub(super) fn compare(&mut self, remains: Leaves, known: &Params, found: &Params, startup: &Startup) {
        let Self::Asked { texts, leaves, touched } = self else { return };
        let (texts, leaves, touched) = (std::mem::take(texts), *leaves, std::mem::take(touched));
        *self = Self::Nothing;
        let kinds = remains.without(leaves);
        let settings = match touched.scope {
            Scope::Any => Vec::new(),
            Scope::Named => unforeseen(&touched, known, found, startup),
        };
        if !kinds.is_nothing() || !settings.is_empty() {
            *self = Self::Missed(Box::new(Missed { kinds, settings, statements: texts }));
        }
    }
}

/// Settings that differ from what was known, and that no text named.
fn unforeseen(touched: &Touched, known: &Params, found: &Params, startup: &Startup) -> Vec<Box<str>> {
    // As the client spelled it, until the server has been asked once.
    let is_spelled =
        |name: &str| startup.asked.iter().any(|(n, value)| n.eq_ignore_ascii_case(name) && known.get(name) == Some(value));
    let is_named = |name: &str| touched.names.iter().any(|n| n.eq_ignore_ascii_case(name));
    let gone = known.iter().map(|(name, _)| name).filter(|name| found.get(name).is_none());
    let changed = found.iter().filter(|(name, value)| known.get(name) != Some(value)).map(|(name, _)| name);
    gone.chain(changed).filter(|name| !is_named(name) && !is_spelled(name)).map(Into::into).collect()
}
