//! `sas-broker demo`: the whole story, told step by step; every step is checked, and the exit code is
//! 1 if any differs. [`world`] sets the scene, [`screen`] prints.

mod rotation;
mod screen;
mod story;
pub mod world;

use std::process::ExitCode;

use clap::Args;

use self::{screen::Screen, story::tell, world::World};
use super::Failure;

/// Tell the whole story on this terminal, against the built-in simulator.
///
/// Everything runs on loopback with a throw-away database. The exit code is 1 if any step does not
/// come out as told.
#[derive(Debug, Args)]
pub struct Demo;

impl Demo {
    /// Runs it.
    ///
    /// # Errors
    /// If the scene cannot be set.
    pub async fn run(self) -> Result<ExitCode, Failure> {
        let mut screen = Screen::default();
        let mut world = World::start(0, false).await?;
        screen.title("sas-broker demo: everything on loopback, nothing is kept");
        let told = tell(&mut world, &mut screen).await;
        world.stop().await;
        told?;
        Ok(if screen.finish() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
