//! Compiles the `.cu` file of every kernel to a fatbin: machine code for the GPUs named in `CODE`, and PTX, which the
//! driver compiles where it runs, for all others.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A new kernel is a new file, which no list of the old ones has.
    println!("cargo::rerun-if-changed=src/kernels");
    println!("cargo::rerun-if-changed=src/cuda");
    #[cfg(feature = "cuda")]
    if let Err(error) = cuda::compile() {
        // What nvcc said is on stderr already.
        println!("cargo::error=cannot compile the CUDA kernels: {error}");
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::cmp::Reverse;
    use std::collections::BTreeMap;
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::{env, fs, thread};

    type Result<T> = std::result::Result<T, String>;

    const KERNELS: &str = "src/kernels";
    const INCLUDES: &[&str] = &["src/cuda", "src/kernels/step"];
    /// What the `.cu` file of a kernel says where its contract is a bound. All others round each operation on its own,
    /// as their scalar oracles do.
    const FUSED: &str = "// nvcc: --fmad=true";
    /// Code for `sm_80` runs on 8.0 to 8.9, code for `sm_90a` on 9.0 alone, and PTX on all that is newer.
    const CODE: &[&str] = &["arch=compute_80,code=[sm_80,compute_80]", "arch=compute_90a,code=sm_90a"];
    /// Machine code is a third as large compressed, which nvcc leaves out by default.
    const FLAGS: &[&str] = &["-fatbin", "-std=c++17", "-O3", "-Xfatbin=-compress-all"];
    /// What finds nvcc, and what nvcc reads.
    const VARIABLES: &[&str] =
        &["NVCC", "CUDA_HOME", "CUDA_PATH", "NVCC_CCBIN", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"];
    /// Where toolkits are by default.
    const TOOLKITS: &[&str] = &["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda"];

    /// Compiles what has changed since it was last compiled into `OUT_DIR`, a file for each kernel.
    pub(super) fn compile() -> Result<()> {
        for variable in VARIABLES {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or("OUT_DIR is not set")?;
        let compiler = Compiler::find()?;
        let mut kernels = Vec::new();
        for source in sources()? {
            let kernel = Kernel::new(source, &out, &compiler)?;
            if !kernel.is_compiled() {
                kernels.push(kernel);
            }
        }
        let failures = in_parallel(&kernels, |kernel| kernel.compile(&compiler));
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }

    /// Every `.cu` file, the longest first: what takes longest is not to be begun last.
    fn sources() -> Result<Vec<PathBuf>> {
        let mut sources = Vec::new();
        for folder in entries(Path::new(KERNELS))?.iter().filter(|path| path.is_dir()) {
            sources.extend(
                entries(folder)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "cu")),
            );
        }
        let mut names: Vec<_> = sources.iter().filter_map(|source| source.file_stem()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("two files are named {}.cu: rename one", twice[0].display()));
        }
        let length = |path: &PathBuf| fs::metadata(path).map_or(0, |data| data.len());
        sources.sort_by_cached_key(|path| (Reverse(length(path)), path.clone()));
        Ok(sources)
    }

    fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
        let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
        read().map_err(at(folder))
    }

    /// What a task returns as an error, of as many at a time as cargo has jobs.
    fn in_parallel<T: Sync>(items: &[T], task: impl Fn(&T) -> Result<()> + Sync) -> Vec<String> {
        let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut failures = Vec::new();
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                failures.extend(task(item).err());
            }
            failures
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..items.len().min(jobs)).map(|_| scope.spawn(work)).collect();
            let panicked = || vec!["a thread panicked".into()];
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(|_| panicked())).collect()
        })
    }

    struct Compiler {
        nvcc: PathBuf,
        /// What makes its output what it is, beside sources.
        identity: Vec<String>,
    }

    impl Compiler {
        fn find() -> Result<Self> {
            let nvcc = find_nvcc()?;
            let said = Command::new(&nvcc).arg("--version").output().map_err(at(&nvcc))?;
            let mut identity = vec![nvcc.display().to_string(), String::from_utf8_lossy(&said.stdout).into()];
            identity.extend(VARIABLES.iter().map(|variable| env::var(variable).unwrap_or_default()));
            identity.extend(FLAGS.iter().chain(CODE).chain(INCLUDES).map(|&flag| flag.into()));
            Ok(Self { nvcc, identity })
        }
    }

    /// The `nvcc` of `NVCC`, `PATH`, `CUDA_HOME` or `CUDA_PATH`, or of a usual place: the order in which the build of
    /// candle's own kernels looks for it.
    fn find_nvcc() -> Result<PathBuf> {
        if let Some(nvcc) = env::var_os("NVCC").map(PathBuf::from) {
            let absent =
                || format!("NVCC is {}, which is not a file: correct it or unset it", nvcc.display());
            return if nvcc.is_file() { Ok(nvcc) } else { Err(absent()) };
        }
        let file = format!("nvcc{}", env::consts::EXE_SUFFIX);
        let path = env::var_os("PATH").unwrap_or_default();
        let roots = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
        let roots = roots.chain(TOOLKITS.iter().map(PathBuf::from)).map(|root| root.join("bin"));
        env::split_paths(&path).chain(roots).map(|folder| folder.join(&file)).find(|nvcc| nvcc.is_file()).ok_or_else(
            || {
                format!(
                    "no {file} in NVCC, PATH, CUDA_HOME/bin, CUDA_PATH/bin or the bin of {}: install the CUDA toolkit, \
                     12 or 13, or name its nvcc in NVCC",
                    TOOLKITS.join(", ")
                )
            },
        )
    }

    struct Kernel {
        source: PathBuf,
        fatbin: PathBuf,
        /// Of all that its fatbin was made of.
        stamp: PathBuf,
        fingerprint: String,
        fused: bool,
    }

    impl Kernel {
        fn new(source: PathBuf, out: &Path, compiler: &Compiler) -> Result<Self> {
            let mut texts = BTreeMap::new();
            gather(&source, &mut texts)?;
            let mut hasher = DefaultHasher::new();
            (&texts, &compiler.identity).hash(&mut hasher);
            let name = out.join(source.file_stem().unwrap_or_default());
            Ok(Self {
                fatbin: name.with_extension("fatbin"),
                stamp: name.with_extension("stamp"),
                fingerprint: format!("{:016x}", hasher.finish()),
                fused: texts[&source].lines().any(|line| line == FUSED),
                source,
            })
        }

        fn is_compiled(&self) -> bool {
            self.fatbin.is_file()
                && fs::read_to_string(&self.stamp).is_ok_and(|text| text == self.fingerprint)
        }

        fn compile(&self, compiler: &Compiler) -> Result<()> {
            // What is written below is whole only once the stamp is there.
            fs::remove_file(&self.stamp).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(at(&self.stamp)(error)),
            })?;
            let mut command = Command::new(&compiler.nvcc);
            command.args(FLAGS).arg(if self.fused { "--fmad=true" } else { "--fmad=false" });
            command.args(CODE.iter().flat_map(|code| ["-gencode", code]));
            command.args(INCLUDES.iter().flat_map(|folder| ["-I", folder]));
            if let Some(host) = env::var_os("NVCC_CCBIN") {
                command.arg("-ccbin").arg(host);
            }
            let run =
                command.arg("-o").arg(&self.fatbin).arg(&self.source).output().map_err(at(&compiler.nvcc))?;
            eprint!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
            if !run.status.success() {
                return Err(format!("{}: nvcc failed with {}", self.source.display(), run.status));
            }
            fs::write(&self.stamp, &self.fingerprint).map_err(at(&self.stamp))
        }
    }

    /// Reads a file and all that it includes in quotes, each once. What is not found is left to nvcc.
    fn gather(file: &Path, texts: &mut BTreeMap<PathBuf, String>) -> Result<()> {
        if texts.contains_key(file) {
            return Ok(());
        }
        let text = fs::read_to_string(file).map_err(at(file))?;
        texts.insert(file.into(), text.clone());
        let named = |line: &str| Some(line.strip_prefix("#include \"")?.split('"').next()?.to_string());
        for name in text.lines().filter_map(named) {
            let folders = file.parent().into_iter().chain(INCLUDES.iter().map(Path::new));
            if let Some(found) = folders.map(|folder| folder.join(&name)).find(|path| path.is_file()) {
                gather(&found, texts)?;
            }
        }
        Ok(())
    }

    fn at(path: &Path) -> impl Fn(std::io::Error) -> String {
        move |error| format!("{}: {error}", path.display())
    }
}
