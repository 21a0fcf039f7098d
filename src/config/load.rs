//! Defaults < file < environment < flags, merged and checked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::draft::Draft;
use super::environment::{self, Env, Selected};
use super::file::ConfigFile;
use super::layers::Layers;
use super::options::{self, CONFIG_FILE, DEFAULT_FILE};
use super::projects::{self, ProjectSpec};
use super::{
    Amended, ConfigError, FileRead, Limits, Lint, Listen, Log, Logins, Password, Project, Settings, Stamp, Timeouts, Upstream,
    User, checks, url,
};

/// Everything the settings can come from. Nothing else is asked: neither the process's environment nor its directory.
#[derive(Clone, Default)]
pub struct Sources {
    /// Values of flags by the option's key (`limits.pool_size`).
    pub flags: BTreeMap<&'static str, String>,
    /// `--config`.
    pub config_file: Option<PathBuf>,
    pub env: Env,
    /// Where `sidepool.toml` is looked for when no file was named.
    pub directory: PathBuf,
    /// What `workers = auto` goes by.
    pub cores: usize,
    /// What was set since, over the file that was read then.
    pub amended: Option<Amended>,
}

impl Sources {
    /// The same, with what was set; `None` reads everything again.
    #[must_use]
    pub fn amended(&self, by: Option<&Amended>) -> Self {
        Self { amended: by.cloned(), ..self.clone() }
    }
}

/// Flags and variables hold passwords.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("config_file", &self.config_file).finish_non_exhaustive()
    }
}

/// Settings, and how they came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Arc<Settings>,
    /// What people should know though it is no error, one sentence each, to be logged as warnings.
    pub notes: Vec<String>,
    /// Where the settings came from, for one line in the log.
    pub source: String,
    /// What Sidepool makes is kept here; `None` if no place for it is known.
    pub state_dir: Option<PathBuf>,
    /// The file that was read, if there was one, and by what a change of it is known.
    pub file: Option<(PathBuf, Option<Stamp>)>,
    /// The same file's text, for what is set over it.
    pub read: FileRead,
    pub fixed: Fixed,
}

/// The values that a reload cannot change, as they were written, by the option's key. One of them is a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed(BTreeMap<&'static str, Password>);

impl Fixed {
    /// The options whose value here is another than `running` has.
    pub fn changed_since(&self, running: &Self) -> Vec<&'static str> {
        options::fixed().map(|option| option.key).filter(|key| self.0.get(key) != running.0.get(key)).collect()
    }
}

/// Reads, merges and checks everything.
///
/// # Errors
/// The first mistake that is found, with the option's key and where it was set.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    Prepared::new(sources)?.finish()
}

/// Settings whose upstream is still open: `sidepool dev` knows its own only once that has started.
#[derive(Debug)]
pub struct Prepared {
    draft: Draft,
    projects: Vec<ProjectSpec>,
    everywhere: Vec<User>,
    /// The URL that makes the default project, and where it stands.
    upstream: Option<(Password, String)>,
    database_url: Option<Password>,
    cores: usize,
    notes: Vec<String>,
    source: Vec<String>,
    file: FileRead,
    fixed: Fixed,
}

impl Prepared {
    /// # Errors
    /// As [`load`], but for what concerns an upstream.
    pub fn new(sources: &Sources) -> Result<Self, ConfigError> {
        let Amended { file, values: set } = match sources.amended.clone() {
            Some(amended) => amended,
            None => Amended::over(FileRead(find_file(sources)?.map(Arc::new))),
        };
        let Selected { values, notes } = environment::select(&sources.env);
        let layers = Layers { file: file.0.as_deref(), env: &values, flags: &sources.flags, set: &set };
        let mut draft = layers.draft()?;
        draft.state_dir = draft.state_dir.or_else(|| state_dir(&sources.env));
        checks::check(&draft)?;

        let upstream = draft.upstream.clone().map(|url| (url, layers.origin("upstream").of("upstream")));
        let (projects, everywhere) = match &file.0 {
            Some(file) => (projects::projects(file, &draft)?, projects::everywhere(file)?),
            None => (Vec::new(), Vec::new()),
        };
        let database_url = sources.env.get("DATABASE_URL").filter(|url| !url.is_empty()).map(Password::new);
        let source = layers.describe();
        let fixed = Fixed(layers.values(options::fixed()));
        let cores = sources.cores;
        Ok(Self { draft, projects, everywhere, upstream, database_url, cores, notes, source, file, fixed })
    }

    pub fn log(&self) -> &Log {
        &self.draft.log
    }

    pub fn listen(&self) -> &Listen {
        &self.draft.listen
    }

    /// What a project without options of its own has.
    pub fn logins(&self) -> &Logins {
        &self.draft.logins
    }

    pub fn limits(&self) -> &Limits {
        &self.draft.limits
    }

    /// Data workers, as in [`Settings::workers`].
    pub fn workers(&self) -> usize {
        checks::workers(&self.draft, self.cores)
    }

    pub fn timeouts(&self) -> &Timeouts {
        &self.draft.timeouts
    }

    /// The user and the password of the default project's upstream, wherever that is; `None` where there is none.
    ///
    /// # Errors
    /// Its URL cannot be read.
    pub fn login(&self) -> Result<Option<(String, Option<Password>)>, ConfigError> {
        let of_file = || {
            let index = self.default_index().unwrap_or(0);
            self.projects.get(index).map(|spec| (&spec.url, spec.url_place.as_str()))
        };
        let explicit = self.upstream.as_ref().map(|(url, place)| (url, place.as_str()));
        let url = explicit.or_else(of_file).or_else(|| self.database_url.as_ref().map(|url| (url, "DATABASE_URL")));
        let Some((url, place)) = url else { return Ok(None) };
        let (upstream, _) = url::parse(url.reveal()).map_err(|error| error.within(place))?;
        Ok(Some((upstream.user, upstream.password)))
    }

    pub fn state_dir(&self) -> Option<&Path> {
        self.draft.state_dir.as_deref()
    }

    /// What the lint does where no option says so.
    #[must_use]
    pub fn lint_unless_told(mut self, lint: Lint) -> Self {
        self.draft.lint.get_or_insert(lint);
        self
    }

    /// Reads the upstreams' URLs.
    ///
    /// # Errors
    /// No upstream, a URL that cannot be read, or one that leads back to Sidepool itself.
    pub fn finish(mut self) -> Result<Loaded, ConfigError> {
        if self.upstream.is_none() && self.projects.is_empty() {
            self.upstream = self.database_url.take().map(|url| (url, "DATABASE_URL".to_owned()));
            self.source.extend(self.upstream.is_some().then(|| "DATABASE_URL".to_owned()));
        }
        let (limits, logins, socket) = (self.draft.limits.clone(), self.draft.logins.clone(), self.draft.upstream_socket.clone());
        if let Some((url, url_place)) = self.upstream.take() {
            match self.default_project() {
                Some(spec) => (spec.url, spec.url_place) = (url, url_place),
                None => {
                    let users = std::mem::take(&mut self.everywhere);
                    self.projects.push(ProjectSpec {
                        name: "*".to_owned(),
                        server_name: None,
                        url,
                        url_place,
                        socket,
                        limits,
                        logins,
                        users,
                        disabled: None,
                    });
                }
            }
        }
        self.settle(None)
    }

    /// For an upstream that is no option: it becomes the default project, in the place of any other. The users `own`
    /// may log in beside those that the file lists, which win where both name the same. `auth_user` asks for the others'
    /// secrets, unless the settings name somebody else.
    ///
    /// # Errors
    /// As [`Prepared::finish`], for the projects in the file.
    pub fn finish_with(mut self, upstream: Upstream, own: Vec<User>, auth_user: &str) -> Result<Loaded, ConfigError> {
        if let Some((_, place)) = self.upstream.take() {
            self.notes.push(format!("{place} has no effect: the upstream is Sidepool's own PostgreSQL"));
        }
        let (mut users, mut limits) = (std::mem::take(&mut self.everywhere), self.draft.limits.clone());
        let mut logins = self.draft.logins.clone();
        let (mut name, mut server_name, mut disabled) = ("*".to_owned(), None, None);
        if let Some(index) = self.default_index() {
            ProjectSpec { name, server_name, users, limits, logins, disabled, .. } = self.projects.remove(index);
        }
        let unlisted = |user: &User| users.iter().all(|listed| listed.name != user.name);
        let own: Vec<_> = own.into_iter().filter(unlisted).collect();
        users.extend(own);
        logins.auth_user.get_or_insert_with(|| auth_user.to_owned());
        let project = Project { server_name, disabled, ..make_project(name, upstream, limits, logins, users) };
        self.settle(Some(project))
    }

    /// The one whose upstream an explicit one replaces.
    fn default_project(&mut self) -> Option<&mut ProjectSpec> {
        let index = self.default_index()?;
        self.projects.get_mut(index)
    }

    fn default_index(&self) -> Option<usize> {
        let named = |name: &str| self.projects.iter().position(|spec| spec.name == name);
        named(Settings::DEFAULT_PROJECT).or_else(|| named("*"))
    }

    fn settle(mut self, own: Option<Project>) -> Result<Loaded, ConfigError> {
        let (client_tls, note) = checks::client_tls(&self.draft)?;
        self.notes.extend(note);
        let mut projects: Vec<Arc<Project>> = own.into_iter().map(Arc::new).collect();
        for spec in self.projects {
            projects.push(Arc::new(read_project(spec, &self.draft, &mut self.notes)?));
        }
        if projects.is_empty() {
            let hint = "Give one with --upstream postgres://USER:PASSWORD@HOST:PORT/DATABASE, SIDEPOOL_UPSTREAM, DATABASE_URL or a \
                        file; or run `sidepool dev`, which brings its own PostgreSQL.";
            return Err(ConfigError::new("there is no upstream: nothing says which PostgreSQL to pool", hint));
        }
        let workers = checks::workers(&self.draft, self.cores);
        let Draft {
            listen,
            client_auth,
            isolation,
            verify,
            home_servers,
            lint,
            logins,
            console,
            shown,
            limits,
            timeouts,
            log,
            state_dir,
            error_texts,
            session_overflow,
            startup_parameters,
            watch,
            named_statements,
            ..
        } = self.draft;
        let lint = lint.unwrap_or(Lint::Off);
        let settings = Settings {
            listen,
            client_auth,
            isolation,
            verify,
            home_servers,
            lint,
            error_texts,
            session_overflow,
            startup_parameters,
            named_statements,
            client_tls,
            console,
            shown,
            limits,
            timeouts,
            workers,
            log,
            watch,
            logins,
            projects,
        };
        let source = if self.source.is_empty() { "defaults".to_owned() } else { self.source.join(", ") };
        let (notes, read, fixed) = (self.notes, self.file, self.fixed);
        let file = read.0.as_ref().map(|file| (file.path.clone(), file.stamp.clone()));
        Ok(Loaded { settings: Arc::new(settings), notes, source, state_dir, file, read, fixed })
    }
}

fn read_project(spec: ProjectSpec, draft: &Draft, notes: &mut Vec<String>) -> Result<Project, ConfigError> {
    let ProjectSpec { name, server_name, url, url_place, socket, limits, logins, users, disabled } = spec;
    let (upstream, url_notes) = url::parse(url.reveal()).map_err(|error| error.within(&url_place))?;
    let upstream = Upstream { socket, ..upstream };
    notes.extend(url_notes.into_iter().map(|note| format!("{url_place}: {note}")));
    if limits.pool_size > limits.max_server_connections {
        let (size, max) = (limits.pool_size, limits.max_server_connections);
        notes.push(format!("project `{name}`: pools stay below pool_size {size}, for max_server_connections is {max}"));
    }
    checks::check_limits(&format!("projects.{name}"), &limits)?;
    checks::check_logins(&name, &upstream, &logins)?;
    let project = Project { server_name, disabled, ..make_project(name, upstream, limits, logins, users) };
    checks::check_loop(&draft.listen, &project, &url_place)?;
    Ok(project)
}

fn make_project(name: String, upstream: Upstream, limits: Limits, logins: Logins, users: Vec<User>) -> Project {
    let Limits { pool_size, min_pool_size, max_server_connections, .. } = limits;
    let (server_name, disabled) = (None, None);
    Project { name, server_name, upstream, users, logins, pool_size, min_pool_size, max_server_connections, disabled }
}

/// `--config`, else `SIDEPOOL_CONFIG`, else `sidepool.toml` if it is there.
fn find_file(sources: &Sources) -> Result<Option<ConfigFile>, ConfigError> {
    let variable = sources.env.get(CONFIG_FILE.1).filter(|path| !path.is_empty());
    if let Some(path) = sources.config_file.clone().or_else(|| variable.map(PathBuf::from)) {
        return ConfigFile::read(&path).map(Some);
    }
    let path = sources.directory.join(DEFAULT_FILE);
    if path.try_exists().unwrap_or(true) { ConfigFile::read(&path).map(Some) } else { Ok(None) }
}

/// XDG Base Directory Specification: a relative path counts as none.
fn state_dir(env: &Env) -> Option<PathBuf> {
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(base.join("sidepool"))
}
