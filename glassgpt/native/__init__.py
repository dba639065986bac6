"""The door to the native code: what `native/` in the source tree compiles to, opened with ctypes. No torch."""
