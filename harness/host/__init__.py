"""What this computer can do: accelerator, admission, doctor, hardware scan."""
