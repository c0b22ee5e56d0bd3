; The tiny guest for a BIOS: a boot sector, and the program (`program.asm`), which it reads.
;
;       nasm -f bin -o tiny.bin tiny.asm
;
; It stays in real mode, so that the BIOS reads and writes the disk (int 13h): SeaBIOS has the drivers for virtio-blk,
; virtio-scsi, AHCI, IDE and NVMe.
;
; The disk, in sectors of 512 bytes:
;       0       boot sector
;       1       parameters, written by make_disk (harness/guests/tiny_guest.py)
;       2       program
;       128     record: what the guest writes

%define RECORD_STORE "disk"
RECORD_SECTOR   equ 128

        bits 16
        cpu 686
        org 0x7C00

boot:
        cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7C00
        jmp 0:.normalized               ; some BIOSes start at 07C0:0000
.normalized:
        sti
        cld
        mov [boot_drive], dl
        mov si, program_packet
        mov ah, 0x42                    ; extended read
        int 0x13
        jnc main
        mov si, .unreadable
.print: lodsb                           ; the program, which drives COM1, is not there
        mov dx, 0x3F8
        out dx, al
        test al, al
        jnz .print
.stop:  hlt
        jmp .stop
.unreadable:
        db "error reason=cannot-read-program", 13, 10, 0

boot_drive:     db 0                    ; here, because reading the program overwrites what is behind this sector

        align 4
program_packet:                         ; disk address packet of int 13h (EDD 3.0, 4.2.2)
        dw 16, PROGRAM_SECTORS, parameters, 0
        dq 1

        times 510 - ($ - $$) db 0
        dw 0xAA55

%include "program.asm"
%include "disk.asm"

program_end:
PROGRAM_SECTORS equ (program_end - parameters + 511) / 512
%if program_end - boot > RINGS - 0x7C00
%error "the program overwrites the rings"
%endif
