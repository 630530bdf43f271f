//! Requests to the Auth service. Root's password is never changed, so that every case can get in again.

use super::{Plan, dice::Dice};
use crate::{
    audit::{ROLES, USERS},
    case::Step,
};

impl Plan {
    pub(super) fn auth(&mut self) {
        match self.dice.below(100) {
            0..=9 => self.switch(),
            10..=34 => self.log_in(),
            35..=64 => {
                let (method, body) = users(&mut self.dice);
                self.call(method, &body);
            }
            65..=94 => {
                let (method, body) = roles(&mut self.dice);
                self.call(method, &body);
            }
            _ => self.call("Auth/AuthStatus", ""),
        }
    }

    /// Turns authentication on, mostly with all that takes, or off.
    fn switch(&mut self) {
        if self.dice.chance(25) {
            self.call("Auth/AuthDisable", "");
            return;
        }
        if self.dice.chance(80) {
            for (method, body) in [
                ("Auth/UserAdd", "name: \"root\" password: \"root\""),
                ("Auth/RoleAdd", "name: \"root\""),
                ("Auth/UserGrantRole", "user: \"root\" role: \"root\""),
            ] {
                self.steps.push(Step::call(0, method, body).by(Some("root")));
            }
        }
        self.call("Auth/AuthEnable", "");
        self.steps.push(Step::call(0, "Auth/Authenticate", "name: \"root\" password: \"root\""));
    }

    fn log_in(&mut self) {
        let user = self.dice.from(&USERS);
        let password = if self.dice.chance(90) { user } else { "wrong" };
        let member = self.member();
        let body = format!("name: \"{user}\" password: \"{password}\"");
        self.steps.push(Step::call(member, "Auth/Authenticate", body));
    }
}

/// A user other than root, or nobody.
fn user(dice: &mut Dice) -> &'static str {
    dice.from(&["alice", "bob", "eve", "alice", "bob", "eve", "nobody", ""])
}

fn role(dice: &mut Dice) -> &'static str {
    if dice.chance(90) { dice.from(&ROLES) } else { dice.from(&["none", ""]) }
}

fn users(dice: &mut Dice) -> (&'static str, String) {
    let name = if dice.chance(10) { "root" } else { user(dice) };
    match dice.below(20) {
        0..=5 => {
            let password = dice.maybe(85, |_| format!("password: \"{name}\""));
            let options = dice
                .maybe(15, |dice| format!("options {{ no_password: {} }}", dice.from(&["true", "false"])));
            ("Auth/UserAdd", format!("name: \"{name}\"{password}{options}"))
        }
        6 => ("Auth/UserDelete", format!("name: \"{name}\"")),
        7 => {
            let name = user(dice);
            ("Auth/UserChangePassword", format!("name: \"{name}\" password: \"{name}\""))
        }
        8..=12 => ("Auth/UserGrantRole", format!("user: \"{name}\" role: \"{}\"", role(dice))),
        13 => ("Auth/UserRevokeRole", format!("name: \"{name}\" role: \"{}\"", role(dice))),
        14 => ("Auth/UserList", String::new()),
        _ => ("Auth/UserGet", format!("name: \"{name}\"")),
    }
}

fn roles(dice: &mut Dice) -> (&'static str, String) {
    let name = role(dice);
    match dice.below(20) {
        0..=4 => ("Auth/RoleAdd", format!("name: \"{name}\"")),
        5 => ("Auth/RoleDelete", format!("role: \"{name}\"")),
        6..=12 => {
            let perm = dice.maybe(95, |dice| {
                format!("perm {{ permType: {} {} }}", dice.from(&[0, 1, 2, 0, 1, 2, 3]), dice.range())
            });
            ("Auth/RoleGrantPermission", format!("name: \"{name}\"{perm}"))
        }
        13 | 14 => ("Auth/RoleRevokePermission", format!("role: \"{name}\" {}", dice.range())),
        15 => ("Auth/RoleList", String::new()),
        _ => ("Auth/RoleGet", format!("role: \"{name}\"")),
    }
}
