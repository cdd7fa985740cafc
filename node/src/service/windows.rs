//! A task that Windows starts when the user logs on.
//!
//! A task and no service of the system: it runs as the user, whose files it reads and whom the home belongs to.

use std::path::Path;

use super::{UnitPathError, named, plain_name, xml};

/// The task's name: one per home.
pub fn name(home: &Path, is_default: bool) -> String {
    plain_name(home, is_default)
}

/// The task's definition for this program, home and user (`DOMAIN\\name`). It is to be written as UTF-16, which the task scheduler asks for.
pub fn text(program: &Path, home: &Path, user: &str) -> Result<String, UnitPathError> {
    let (program, home) = (named(program)?, named(home)?);
    let arguments = xml(&format!("--home {} up --foreground", argument(home)));
    let (program, user) = (xml(program), xml(user));
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?>\r\n\
         <Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">\r\n\
         <RegistrationInfo><Description>mesh: your folders in sync between your devices</Description></RegistrationInfo>\r\n\
         <Triggers><LogonTrigger><Enabled>true</Enabled><UserId>{user}</UserId></LogonTrigger></Triggers>\r\n\
         <Principals><Principal id=\"Author\"><UserId>{user}</UserId><LogonType>InteractiveToken</LogonType>\
         <RunLevel>LeastPrivilege</RunLevel></Principal></Principals>\r\n\
         <Settings>\r\n\
         <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>\r\n\
         <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>\r\n\
         <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>\r\n\
         <Hidden>true</Hidden>\r\n\
         <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>\r\n\
         <RestartOnFailure><Interval>PT1M</Interval><Count>10</Count></RestartOnFailure>\r\n\
         </Settings>\r\n\
         <Actions Context=\"Author\"><Exec><Command>{program}</Command><Arguments>{arguments}</Arguments></Exec></Actions>\r\n\
         </Task>\r\n"
    ))
}

/// UTF-16, little-endian, with its mark.
pub fn encoded(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

/// One argument as programs on Windows take it apart: in quotes; no path there holds one.
fn argument(text: &str) -> String {
    // A backslash before the closing quote would take it away.
    let slashes = text.len() - text.trim_end_matches('\\').len();
    format!("\"{text}{}\"", "\\".repeat(slashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_runs_this_program_on_this_home() {
        let text = text(
            Path::new("C:\\Program Files\\mesh\\mesh.exe"),
            Path::new("C:\\Users\\a & b\\mesh\\"),
            "PC\\a & b",
        )
        .unwrap();
        assert!(
            text.contains("<Command>C:\\Program Files\\mesh\\mesh.exe</Command>"),
            "{text}"
        );
        let words = "<Arguments>--home &quot;C:\\Users\\a &amp; b\\mesh\\\\&quot; up --foreground</Arguments>";
        assert!(text.contains(words), "{text}");
        assert_eq!(text.matches("<UserId>PC\\a &amp; b</UserId>").count(), 2);
        assert_eq!(encoded("aä"), [0xff, 0xfe, b'a', 0, 0xe4, 0]);
        assert_eq!(name(Path::new("/x"), true), "mesh");
    }
}
