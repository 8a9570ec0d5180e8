//! zap-restart: brings a pod back from its images. Until everything has been found right it only reads.

use clap::Parser;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zap_client::error::{reason, Error, Result};
use zap_client::{namespaces, trusted, usage, Connection, MappedTable, RuntimeDir};
use zap_image::name::ImageName;
use zap_restart::arguments::{Files, Restart as Arguments};
use zap_restart::changed::{self, Changed};
use zap_restart::commons::Commons;
use zap_restart::generation::{self, choose};
use zap_restart::image::{self, Image};
use zap_restart::kept::KeptFiles;
use zap_restart::measures::Changes;
use zap_restart::own_directories::{Beside, OwnDirectories};
use zap_restart::planner::{self, Facts, Planned};
use zap_restart::program;
use zap_restart::start::{self, Candidate, Circumstances, Pod, Start};
use zap_restart::tree::{self, Kin};
use zap_restart::{backing, fault, huge_pages, moved, supervise, unpack, vanished, verify};
use zap_sys::RealPid;
use zap_wire::inodes::{self, FileId};
use zap_wire::message::{PodSettings, Restart, StreamId};
use zap_wire::private::Private;
use zap_wire::restart::Moved;
use zap_wire::{FromCoordinator, ToCoordinator, PROTOCOL_VERSION};

/// Exit status of zap-restart's own failures.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(said) if usage::print("zap-restart", &said) => return ExitCode::from(FAILED),
        Err(_) => return ExitCode::SUCCESS,
    };
    program::raise_limit();
    match run(&arguments) {
        Ok(_) if arguments.background => ExitCode::SUCCESS,
        Ok(Restarted { first, ended: Some(status), table }) => supervise::wait_for_last(first, &table, status),
        Ok(Restarted { first, .. }) => supervise::wait(first),
        Err(error) => {
            eprintln!("zap-restart: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// A pod that runs.
struct Restarted {
    /// Its first process, or if that had ended, another one.
    first: RealPid,
    /// How the first process had ended.
    ended: Option<i32>,
    table: PathBuf,
}

fn run(arguments: &Arguments) -> Result<Restarted> {
    let mut images = choose_images(arguments)?;
    let surroundings = Surroundings::look(arguments, &images)?;
    let runtime = RuntimeDir::open()?;
    for image in &mut images {
        prepare(image, runtime.as_ref(), arguments.verify)?;
    }
    let mut own = OwnDirectories::restore(&images, &arguments.map, arguments.verify)?;
    let beside = Beside::hold(&surroundings.beside)?;
    let puts_back = arguments.files == Some(Files::Snapshot);
    // Found by the host's paths, and a coordinator started in the host's namespaces, before this process may leave both.
    let kept = KeptFiles::open(&images, runtime.as_ref(), arguments.verify, puts_back)?;
    let coordinator = match &mut own {
        Some(own) => Some(own.enter()?),
        None => None,
    };
    let moved: Vec<Moved> =
        own.as_ref().and_then(OwnDirectories::moved).into_iter().chain(arguments.map.iter().cloned()).collect();
    images.iter_mut().for_each(|image| moved::apply(&moved, &mut image.header));
    let kin: Vec<Kin> = images.iter().map(kin_of).collect();
    let tree = tree::plan(&kin).map_err(|why| Error::new(images[0].path.display(), why))?;
    let commons = Commons::make(&images)?;
    let restored = own.as_ref().map(OwnDirectories::paths).unwrap_or_default();
    let plan = |image| plan_without_missing(image, &commons, &restored);
    let mut candidates = images.into_iter().map(plan).collect::<Result<Vec<_>>>()?;
    let headers: Vec<_> = candidates.iter().map(|candidate| &candidate.image.header).collect();
    huge_pages::check(&headers)?;
    let changed = Changed::look(headers.into_iter(), &moved, arguments.files)?;
    fault::reach(zap_wire::fault::RESTART_PLANNED);
    let private = own.as_ref().map(OwnDirectories::settings).unwrap_or_default();
    let pod = make_pod(arguments, &candidates, surroundings, private, coordinator)?;
    if let Some(own) = &own {
        own.seal(Path::new(&pod.table))?;
    }
    let known = changed.known();
    let measures = changed.decide(arguments.files, pod.name == candidates[0].image.header.pod.name, &beside.path())?;
    let changes = Changes::default();
    let ended = candidates[0].image.header.first_ended();
    let (background, mask) = (arguments.background, supervise::block());
    let circumstances =
        Circumstances { background, mask, measures: &measures, changes: &changes, kept: &kept, moved: &moved };
    measures.put_back(&kept, &changes)?;
    tell_numbers(own.as_ref(), &known, Path::new(&pod.table)).inspect_err(|_| changes.undo())?;
    let mut start = || {
        if let Start::Runs(child) = start::start(&candidates, &commons, &tree, &pod, circumstances)? {
            return Ok(child);
        }
        // A JVM that starts now removes such files of others.
        let again = std::mem::take(&mut candidates).into_iter().map(|one| plan(one.image));
        candidates = again.collect::<Result<Vec<_>>>()?;
        match start::start(&candidates, &commons, &tree, &pod, circumstances)? {
            Start::Runs(child) => Ok(child),
            Start::FileGone(error) => Err(error),
        }
    };
    match start() {
        Ok(first) => {
            changes.stay();
            if let Some(own) = own {
                own.stay();
            }
            Ok(Restarted { first, ended, table: PathBuf::from(&pod.table) })
        }
        Err(error) => {
            changes.undo();
            Err(error)
        }
    }
}

/// Tells the pod's processes by which numbers they know files that have others here.
fn tell_numbers(own: Option<&OwnDirectories>, open: &[(PathBuf, FileId)], table: &Path) -> Result<()> {
    let made = own.map(OwnDirectories::numbers).unwrap_or_default();
    let words = inodes::encode(made.iter().copied().chain(changed::numbers(open)));
    match words.is_empty() {
        true => Ok(()),
        false => MappedTable::open(table)?.set_inodes(table, &words),
    }
}

/// Makes sure that the image is what was written, and can be mapped.
fn prepare(image: &mut Image, runtime: Option<&RuntimeDir>, verify_all: bool) -> Result<()> {
    image.check_owner()?;
    let remote = image.is_remote();
    let compressed = image.is_compressed();
    if remote && !compressed {
        image.take_in()?;
    }
    let untouched = !remote && runtime.is_some_and(|runtime| trusted::is_untouched(runtime, &image.file));
    if compressed {
        unpack::unpack(image)
    } else if verify_all || !untouched {
        verify::extents(image)
    } else {
        Ok(())
    }
}

fn kin_of(image: &Image) -> Kin {
    let process = &image.header.process;
    Kin { pid: process.virtual_pid, parent: process.parent, group: process.group, session: process.session }
}

fn plan_without_missing(mut image: Image, commons: &Commons, restored: &[PathBuf]) -> Result<Candidate> {
    let missing = backing::missing(&image.header);
    vanished::replace(&mut image.header, &missing);
    let planned = plan(&image, commons, restored)?;
    Ok(Candidate { image, planned })
}

fn choose_images(arguments: &Arguments) -> Result<Vec<Image>> {
    let paths = image::find(&arguments.images)?;
    let images = paths.iter().map(|path| Image::open(path)).collect::<Result<Vec<_>>>()?;
    let candidates: Vec<generation::Candidate<'_>> = images.iter().map(generation::Candidate::of).collect();
    let choice = choose(&candidates)?;
    if let Some(why) = choice.passed_over {
        eprintln!("zap-restart: {why}");
    }
    let mut images: Vec<Option<Image>> = images.into_iter().map(Some).collect();
    Ok(choice.images.into_iter().filter_map(|index| images[index].take()).collect())
}

fn plan(image: &Image, commons: &Commons, restored: &[PathBuf]) -> Result<Planned> {
    start::check_executable(image)?;
    let facts = Facts {
        extents_start: image.extents_start,
        mappable: image.is_mappable(),
        commons: commons.paths(image),
        writable_files: backing::check(&image.header, restored)?,
    };
    planner::plan(&image.header, &facts).map_err(|error| Error::new(image.path.display(), error))
}

/// The highest generation of the pod in `directory`: of a life that went on after the image was taken, perhaps. New
/// images are numbered on from there, so that none replaces another and the newest has the highest number.
fn highest_generation(directory: &Path, pod: u64) -> u32 {
    let names = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let parsed = names.filter_map(|name| name.to_str().and_then(ImageName::parse));
    parsed.filter(|name| name.pod_id == pod).map(|name| name.generation).max().unwrap_or(0)
}

/// What is known of the images' directories, before the pod's own may lie over them.
struct Surroundings {
    /// The directory of the images, and that of the next ones.
    beside: PathBuf,
    ckpt_dir: String,
    /// Paths of the images.
    images: Vec<String>,
    /// See [`highest_generation`].
    highest: u32,
}

impl Surroundings {
    fn look(arguments: &Arguments, images: &[Image]) -> Result<Self> {
        let first = &images[0];
        let ckpt_dir = checkpoint_directory(arguments, &first.path)?;
        let path = |image: &Image| Ok(absolute(&image.path)?.to_string_lossy().into_owned());
        Ok(Self {
            beside: directory_of(&first.path)?,
            highest: highest_generation(Path::new(&ckpt_dir), first.header.pod.id),
            ckpt_dir,
            images: images.iter().map(path).collect::<Result<_>>()?,
        })
    }
}

fn make_pod(
    arguments: &Arguments,
    candidates: &[Candidate],
    surroundings: Surroundings,
    private: Private,
    coordinator: Option<Connection>,
) -> Result<Pod> {
    let recorded = &candidates[0].image.header.pod;
    let Surroundings { ckpt_dir, highest, images, .. } = surroundings;
    let request = Restart {
        protocol: PROTOCOL_VERSION,
        pod_id: recorded.id,
        name: arguments.pod.clone(),
        recorded_name: recorded.name.clone(),
        generation: recorded.generation.max(highest),
        settings: PodSettings {
            ckpt_dir,
            interval: recorded.interval,
            keep: recorded.keep,
            compress: recorded.compress.clone(),
            signal: recorded.signal,
            snapshot_files: candidates[0].image.header.open_files().keeps,
            private,
        },
        streams: streams(),
        members: recorded.members.iter().map(|member| (member.virtual_pid, member.program.clone())).collect(),
        images,
        ended: candidates[0].image.header.first_ended(),
    };
    let request = ToCoordinator::Restart(request);
    let answer = match coordinator {
        Some(coordinator) => coordinator.exchange(&request)?,
        None => Connection::request(&RuntimeDir::open_or_create()?, &request)?,
    };
    match answer {
        FromCoordinator::InPod { pod_id, table, name } => {
            let table = namespaces::inside(Path::new(&table)).to_string_lossy().into_owned();
            Ok(Pod { id: pod_id, name, table })
        }
        FromCoordinator::Failed { why, .. } => Err(Error::new("zap-coordinator", why)),
        other => Err(Error::new("zap-coordinator", format_args!("unexpected answer {other:?}"))),
    }
}

/// Device and inode of the standard streams.
fn streams() -> [StreamId; 3] {
    let identity = |fd: std::os::fd::BorrowedFd<'_>| {
        let file = fd.try_clone_to_owned().map(fs::File::from);
        file.and_then(|file| file.metadata()).map_or((0, 0), |metadata| (metadata.dev(), metadata.ino()))
    };
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    [identity(input.as_fd()), identity(output.as_fd()), identity(error.as_fd())]
}

fn checkpoint_directory(arguments: &Arguments, image: &Path) -> Result<String> {
    let directory = match &arguments.ckpt_dir {
        Some(directory) => absolute(directory)?,
        None => directory_of(image)?,
    };
    if !directory.is_dir() {
        return Err(Error::new(directory.display(), "is not a directory"));
    }
    match directory.to_str() {
        Some(text) => Ok(text.to_string()),
        None => Err(Error::new(directory.display(), "is not valid UTF-8")),
    }
}

fn directory_of(image: &Path) -> Result<PathBuf> {
    Ok(absolute(image)?.parent().map(Path::to_path_buf).unwrap_or_default())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| Error::new(path.display(), reason(&error)))
}
