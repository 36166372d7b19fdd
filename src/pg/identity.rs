//! Running code as another role, with settings of its own.

use super::{search_path, shim};
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_int};

/// The settings that decide what a handler's text means, captured when its projection is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub search_path: String,
    pub time_zone: String,
    pub date_style: String,
    pub interval_style: String,
}

impl Settings {
    fn entries(&self) -> [(&'static CStr, &str); 4] {
        [
            (c"search_path", &self.search_path),
            (c"timezone", &self.time_zone),
            (c"datestyle", &self.date_style),
            (c"intervalstyle", &self.interval_style),
        ]
    }

    /// Whether the session's settings are these, but for the search_path.
    fn have_styles_in_force(&self) -> bool {
        let now = Styles::now();
        let read = STYLES.take().filter(|(of, _)| *of == now);
        let texts = read
            .map_or_else(|| [c"timezone", c"datestyle", c"intervalstyle"].map(value_of), |(_, texts)| texts);
        let same = texts == [&*self.time_zone, &self.date_style, &self.interval_style];
        STYLES.set(Some((now, texts)));
        same
    }
}

/// What PostgreSQL makes of the time zone and the styles. While it is the same, so is the meaning of their texts, which take
/// long to read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Styles {
    time_zone: *const pg_sys::pg_tz,
    date: (c_int, c_int),
    interval: c_int,
}

impl Styles {
    fn now() -> Self {
        // SAFETY: reads variables of the backend. A time zone, once looked up, stays where it is.
        unsafe {
            Self {
                time_zone: pg_sys::session_timezone,
                date: (pg_sys::DateStyle, pg_sys::DateOrder),
                interval: pg_sys::IntervalStyle,
            }
        }
    }
}

thread_local! {
    /// The texts of the time zone and the styles, in that order, as they were read last.
    static STYLES: Cell<Option<(Styles, [String; 3])>> = const { Cell::new(None) };
}

/// The role that the session acts as.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a variable of the backend.
    unsafe { shim::GetUserId() }
}

/// A role's name, quoted.
pub fn name_of(role: pg_sys::Oid) -> String {
    // SAFETY: catalog look-ups that return palloc'd C strings; an unknown role is an error, guarded.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, false);
        CStr::from_ptr(pg_sys::quote_identifier(name)).to_string_lossy().into_owned()
    }
}

/// Whether the current role is `role` or a member that has its rights; a superuser always.
pub fn has_rights_of(role: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups inside a transaction.
    unsafe { pg_sys::has_privs_of_role(shim::GetUserId(), role) }
}

/// Runs `body` as `role`. On an error the abort of the (sub)transaction restores the caller's role.
fn run_as<R>(role: pg_sys::Oid, restriction: u32, body: impl FnOnce() -> Result<R>) -> Result<R> {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: sets what is put back below; an abort puts it back as well.
    unsafe {
        shim::GetUserIdAndSecContext(&raw mut user, &raw mut context);
        shim::SetUserIdAndSecContext(role, context | restriction as i32);
    }
    let result = body()?;
    // SAFETY: the values read above.
    unsafe { shim::SetUserIdAndSecContext(user, context) };
    Ok(result)
}

/// Runs refold's own statements as the owner of its tables, a superuser as a rule: nothing that names a user's relation,
/// type or function is evaluated here, and each name and operator is qualified.
pub fn as_refold<R>(owner: pg_sys::Oid, body: impl FnOnce() -> Result<R>) -> Result<R> {
    let _own = Own(OWN.replace(true));
    run_as(owner, pg_sys::SECURITY_LOCAL_USERID_CHANGE, body)
}

thread_local! {
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, refold's own statements run.
struct Own(bool);

impl Drop for Own {
    fn drop(&mut self) {
        OWN.set(self.0);
    }
}

/// Whether one of refold's own statements runs.
pub fn is_refold() -> bool {
    OWN.get()
}

/// As [`as_refold`], for statements that run once and need not qualify pg_catalog's names.
pub fn as_refold_pinned<R>(owner: pg_sys::Oid, body: impl FnOnce() -> Result<R>) -> Result<R> {
    as_refold(owner, || with_settings(&[(c"search_path", "pg_catalog, pg_temp")], body))
}

/// As [`as_refold`], without notices to the client.
pub fn as_refold_quiet<R>(owner: pg_sys::Oid, body: impl FnOnce() -> Result<R>) -> Result<R> {
    as_refold(owner, || with_settings(&[(c"client_min_messages", "warning")], body))
}

/// Runs user code as a projection's owner, under its settings, as PostgreSQL runs maintenance: no SET ROLE, no
/// temporary tables, no deferred triggers, so that nothing of it runs later with the caller's rights.
pub fn as_owner<R>(owner: pg_sys::Oid, settings: &Settings, body: impl FnOnce() -> Result<R>) -> Result<R> {
    let restriction = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
    run_as(owner, restriction, || {
        let all = settings.entries();
        let path_stays = search_path::may_stay(&settings.search_path);
        let to_set = match (path_stays, settings.have_styles_in_force()) {
            (true, true) => &[],
            (true, false) => &all[1..],
            (false, true) => &all[..1],
            (false, false) => &all[..],
        };
        let _staying = search_path::Staying::begin(path_stays);
        with_settings(to_set, body)
    })
}

/// Runs `body`, in which ANALYZE samples no more than tells how large a table is and which columns are distinct.
pub fn with_few_statistics<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    with_settings(&[(c"default_statistics_target", "1")], body)
}

fn with_settings<R>(settings: &[(&CStr, &str)], body: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: closed below; an abort closes every level.
    let level = unsafe { shim::NewGUCNestLevel() };
    for &(name, value) in settings {
        if value_of(name) != value {
            set(name, value, pg_sys::GucAction::GUC_ACTION_SAVE)?;
        }
    }
    let result = body()?;
    // SAFETY: the level opened above, nothing is left open inside.
    unsafe { pg_sys::AtEOXact_GUC(false, level) };
    Ok(result)
}

/// A setting's value as text, or nothing if there is no such setting.
pub fn value_of(name: &CStr) -> String {
    // SAFETY: the string is the setting's own or a static buffer; copied at once.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() { String::new() } else { CStr::from_ptr(value).to_string_lossy().into_owned() }
    }
}

/// Sets a setting to the end of the transaction, as SET LOCAL does.
pub fn set_local(name: &CStr, value: &str) -> Result<()> {
    set(name, value, pg_sys::GucAction::GUC_ACTION_LOCAL)
}

fn set(name: &CStr, value: &str, action: pg_sys::GucAction::Type) -> Result<()> {
    let value = CString::new(value).map_err(|_| Error::bad_value("a setting holds a zero byte"))?;
    // SAFETY: well-formed strings; errors are guarded.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
    Ok(())
}
