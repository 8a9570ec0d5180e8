//! The work of the frozen copy, or of a program that can have none: survey its own memory, lay the image out, write it. Simple
//! and raw; whatever else is to be done with an image is the coordinator's.
//!
//! # Safety
//! Reads memory by address, where the survey found it mapped and readable.
#![allow(unsafe_code)]

use crate::memory::{self, Memory, Source};
use crate::state;
use crate::threads;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use zap_image::header::bytes::Bytes;
use zap_image::layout::ChunkHasher;
use zap_image::{ChunkSums, Entry, Header, Member, Pod, Process, Section, Thread};
use zap_plugin::{Refusal, SavedSection};
use zap_sys::arch::context::SnapshotContext;
use zap_sys::{fd, RawFd};
use zap_wire::message::SaveOrder;

/// Bytes that are copied, written and hashed in one go: they stay in the processor's cache.
const BOUNCE_SIZE: u64 = 256 << 10;

/// Everything that the writer is told.
pub struct Task<'a> {
    pub order: &'a SaveOrder,
    pub sections: &'a [SavedSection],
    /// Path of what the program executes, as it was when it stood.
    pub executable: &'a [u8],
    pub memory: Memory<'a>,
    pub context: &'a SnapshotContext,
    /// Address of the mailbox.
    pub mailbox: u64,
    /// The image's descriptor.
    pub image: RawFd,
    /// Where somebody says that it is not wanted any more, if anybody does.
    pub listens: Option<RawFd>,
}

/// Writes the image; returns its length in bytes.
pub fn write(task: &Task<'_>) -> Result<u64, Refusal> {
    let survey = memory::survey(&task.memory, &task.order.open)?;
    crate::fault::point(zap_wire::fault::WRITER_LAYING_OUT);
    let mut header = header(task)?;
    let extents_length = survey.extents_length;
    header.chunk_sums = Bytes(ChunkSums::for_length(extents_length).into_bytes());
    header.files = survey.files;
    header.objects = survey.objects;
    header.regions = survey.regions;
    let encode = |header: &Header| {
        zap_image::encode_head(header, extents_length).map_err(|error| Refusal::new("image header", error))
    };
    // The checksums' values do not change the head's length, so that the extents can go to their place at once.
    let head_length = encode(&header)?.len() as u64;
    let sums = write_extents(task, &header, &survey.sources, head_length, extents_length)?;
    header.chunk_sums = Bytes(sums.into_bytes());
    let head = encode(&header)?;
    if head.len() as u64 != head_length {
        return Err(Refusal::new("image header", "changed its length"));
    }
    fd::pwrite_all(task.image, &head, 0).map_err(|error| Refusal::new("image", error))?;
    Ok(head_length + extents_length)
}

fn write_extents(
    task: &Task<'_>,
    header: &Header,
    sources: &[Source],
    head_length: u64,
    extents_length: u64,
) -> Result<ChunkSums, Refusal> {
    let mut hasher = ChunkHasher::new(extents_length);
    // The writer's own stack and data are among what it saves and change while it works: what is hashed must be the
    // very bytes that are written. Scratch memory is no part of the image.
    let mut bounce = alloc::vec![0u8; BOUNCE_SIZE as usize];
    let extents = header.regions.iter().flat_map(|region| &region.extents);
    for (extent, source) in extents.zip(sources) {
        let mut done = 0;
        while done < extent.length {
            if task.listens.is_some_and(|from| fd::poll_for(from, zap_sys::libc::POLLIN, 0) != Ok(0)) {
                return Err(Refusal::new("coordinator", "has given the checkpoint up"));
            }
            let part = (extent.length - done).min(BOUNCE_SIZE);
            let offset = extent.offset + done;
            if offset <= extents_length / 2 && offset + part > extents_length / 2 {
                crate::fault::point(zap_wire::fault::WRITER_WRITING);
            }
            let bytes = &mut bounce[..part as usize];
            // SAFETY: the survey has found it.
            unsafe { source.read(done, bytes) }
                .map_err(|error| Refusal::new(format!("memory at {:x}", extent.address + done), error))?;
            fd::pwrite_all(task.image, bytes, head_length + offset).map_err(|error| Refusal::new("image", error))?;
            hasher.update(bytes);
            done += part;
        }
    }
    Ok(hasher.finish())
}

fn header(task: &Task<'_>) -> Result<Header, Refusal> {
    let order = task.order;
    let (bounds, auxv) = memory::bounds()?;
    let executable = task.executable.to_vec();
    let (fs_base, gs_base) = zap_sys::process::thread_registers();
    let program = executable.rsplit(|c| *c == b'/').next().unwrap_or_default();
    let (stack_limit, _) = zap_sys::process::limit(zap_sys::libc::RLIMIT_STACK).unwrap_or((8 << 20, 0));
    let relations = crate::identity::relations();
    Ok(Header {
        pod: Pod {
            id: order.pod_id,
            name: order.pod_name.clone(),
            generation: order.generation,
            time: order.time,
            interval: order.settings.interval,
            keep: order.settings.keep,
            compress: order.settings.compress.clone(),
            signal: order.settings.signal,
            members: order
                .members
                .iter()
                .map(|(virtual_pid, program)| Member { virtual_pid: *virtual_pid, program: program.clone() })
                .collect(),
        },
        process: Process {
            virtual_pid: state::virtual_pid().0,
            program: String::from_utf8_lossy(program).into_owned(),
            executable: Bytes(executable),
            entry: Entry {
                stack_pointer: task.context.stack_pointer,
                instruction_pointer: task.context.instruction_pointer,
                fs_base,
                gs_base,
            },
            bounds,
            auxv: Bytes(auxv),
            vdso: state::vdso(),
            mailbox: task.mailbox,
            zap_version: env!("CARGO_PKG_VERSION").to_string(),
            kernel: kernel_release(),
            stack_limit,
            parent: relations.parent.0,
            group: relations.group.0,
            session: relations.session.0,
            foreground: relations.foreground.0,
        },
        threads: threads::slots()
            .map(|slot| Thread { virtual_tid: slot.virtual_tid.load(Ordering::Relaxed), name: threads::name_of(slot) })
            .collect(),
        files: Vec::new(),
        objects: Vec::new(),
        regions: Vec::new(),
        sections: task
            .sections
            .iter()
            .map(|section| Section {
                name: section.name.clone(),
                version: section.version,
                required: section.required,
                bytes: Bytes(section.bytes.clone()),
            })
            .chain(order.ended.map(|status| Section {
                name: zap_image::header::FIRST_ENDED.into(),
                version: 1,
                required: false,
                bytes: Bytes(status.to_le_bytes().to_vec()),
            }))
            .collect(),
        chunk_sums: Bytes(Vec::new()),
        stored_chunks: Bytes(Vec::new()),
    })
}

fn kernel_release() -> String {
    let mut buffer = [0u8; 128];
    let text = fd::read_file(c"/proc/sys/kernel/osrelease", &mut buffer).unwrap_or_default();
    String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(text)).into_owned()
}
