//! What a text does to the state of its session.

use std::sync::Arc;

use super::leaves::Leaves;

/// Settings named in one text; past that, all of them are asked for.
const NAMES_MAX: usize = 64;
/// Longest name of a setting that is kept, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 128;

/// What a text does to the state of its session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// State that may be there when it has run.
    pub leaves: Leaves,
    /// State that may be gone when it has run.
    pub frees: Leaves,
    /// With [`Leaves::SETTINGS`]: which ones.
    pub names: Option<Arc<Touched>>,
    /// With [`Leaves::RESETS`]: which ones, also of those that the server reports.
    pub resets: Option<Arc<Touched>>,
}

/// Settings that a text may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub scope: Scope,
    /// In lower case.
    pub names: Vec<Box<str>>,
    /// Numbers of the parameters that hold further names: `set_config($1, …)`.
    pub bound: Vec<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those that are named and no others.
    #[default]
    Named,
    /// The text does not tell: any.
    Any,
}

impl Effects {
    pub const NOTHING: Self = Self { leaves: Leaves::NOTHING, frees: Leaves::NOTHING, names: None, resets: None };

    pub(super) fn leaving(leaves: Leaves) -> Self {
        Self { leaves, ..Self::NOTHING }
    }

    pub(super) fn freeing(frees: Leaves) -> Self {
        Self { frees, ..Self::NOTHING }
    }

    /// Whatever may be.
    pub fn anything() -> Self {
        Self { leaves: Leaves::ANYTHING, frees: Leaves::ASKABLE, names: Some(Arc::new(Touched::any())), resets: None }
    }

    pub(super) fn any_setting() -> Self {
        Self { names: Some(Arc::new(Touched::any())), ..Self::leaving(Leaves::SETTINGS) }
    }

    pub(super) fn setting(name: &[u8]) -> Self {
        match std::str::from_utf8(name) {
            Ok(name) if name.len() <= NAME_BYTES_MAX => {
                Self { names: Some(Arc::new(Touched::named(name))), ..Self::leaving(Leaves::SETTINGS) }
            }
            _ => Self::any_setting(),
        }
    }

    pub(super) fn bound_setting(parameter: u16) -> Self {
        let touched = Touched { bound: vec![parameter], ..Touched::default() };
        Self { names: Some(Arc::new(touched)), ..Self::leaving(Leaves::SETTINGS) }
    }

    pub(super) fn resetting(mut self, what: Touched) -> Self {
        self.leaves |= Leaves::RESETS;
        self.resets = Some(Arc::new(what));
        self
    }

    /// Where channels of the client's are listened to makes a difference to it.
    pub(super) fn about_channels(mut self) -> Self {
        self.frees |= Leaves::CHANNELS;
        self
    }

    /// See [`Leaves::CHANNELS`].
    pub const fn is_about_channels(&self) -> bool {
        self.frees.has(Leaves::CHANNELS)
    }

    pub const fn is_nothing(&self) -> bool {
        self.leaves.is_nothing() && self.frees.is_nothing()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.leaves |= other.leaves;
        self.frees |= other.frees;
        merge(&mut self.names, other.names);
        merge(&mut self.resets, other.resets);
    }
}

fn merge(mine: &mut Option<Arc<Touched>>, theirs: Option<Arc<Touched>>) {
    match (mine, theirs) {
        (_, None) => {}
        (mine @ None, theirs) => *mine = theirs,
        (Some(mine), Some(theirs)) => Arc::make_mut(mine).add(&theirs),
    }
}

impl Touched {
    pub fn any() -> Self {
        Self { scope: Scope::Any, ..Self::default() }
    }

    pub fn named(name: &str) -> Self {
        Self { names: vec![name.to_ascii_lowercase().into()], ..Self::default() }
    }

    pub fn add(&mut self, other: &Self) {
        if other.scope == Scope::Any {
            self.scope = Scope::Any;
        }
        for name in &other.names {
            if self.names.contains(name) {
                continue;
            }
            if self.names.len() == NAMES_MAX {
                self.scope = Scope::Any;
                break;
            }
            self.names.push(name.clone());
        }
        self.bound.extend(other.bound.iter().take(NAMES_MAX - self.bound.len().min(NAMES_MAX)));
    }
}
