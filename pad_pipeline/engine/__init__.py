"""What `annotate` and `serve` stand on: the stages, their workers, and isolation of faults.

`stages` are the steps themselves, `build` loads their models, `plan` decides which workers run
them, by `costs`. `guard` turns an exception into the error of one image's record. A worker that
dies is replaced by Ray (`worker_replacement`); `isolation` then finds the image at fault, with what
`crash_tracker` remembers of dead workers. `watchdog` ends a worker that hangs. Modules called
`ray_*` import Ray, the others do not.
"""
