; The tiny guest: a boot sector and a few KiB that count, answer on COM1, write their disk, and answer ping.
;
;       nasm -f bin -o tiny.bin tiny.asm
;
; It stays in real mode, so that the BIOS reads and writes the disk (int 13h): SeaBIOS has the drivers for virtio-blk,
; virtio-scsi, AHCI, IDE and NVMe. The descriptor caches of DS and ES get a limit of 4 GiB ("big real mode", `flat`), which
; reaches the registers of network cards.
;
; Nothing runs until an interrupt: of the real time clock, once a second by default, of COM1, or of the network card.
; The state is memory, the disk and the card's rings, so that all of it is there again after a migration or a restore.
;
; The disk, in sectors of 512 bytes:
;       0       boot sector
;       1       parameters, written by make_disk (harness/guests/tiny_guest.py)
;       2       program
;       128     record: what the guest writes
;
; Memory:
;       0x07000 stack, downwards from 0x7C00
;       0x07C00 boot sector, parameters, program
;       0x0C000 rings of the network card
;       0x0C800 the record
;       0x10000 frames, 2 KiB each: received ones, then those to be sent

        bits 16
        cpu 686
        org 0x7C00

RECORD_SECTOR   equ 128
RINGS           equ 0xC000
RECORD          equ 0xC800
NAME_BYTES      equ 32                  ; a nonce or a word, with at least one NUL at its end

; say "text" prints it.
%macro say 1+
        call print_inline
        db %1, 0
%endmacro

; ---- boot sector --------------------------------------------------------------------------------------------------

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

; ---- parameters: the layout is that of `parameters` in harness/guests/tiny_guest.py -----------------------------------

parameters:
.magic:         times 8 db 0
.nonce:         times NAME_BYTES db 0
.rate:          db 0                    ; of the real time clock's interrupt: 32768 Hz >> (rate - 1), or 0 for 1 Hz
.addresses:     db 0                    ; how many rows follow
.rows:          times 512 - ($ - parameters) db 0       ; a MAC and its IPv4 address, or zeros for any MAC
ROW_BYTES       equ 10

; ---- program ------------------------------------------------------------------------------------------------------

main:
        call serial_start
        call check_parameters
        call flat
        call record_start
        call nic_start
        call interrupts_start
        say "started"
        call print_status
main_loop:
        cli
        mov ax, [input_begin]
        cmp ax, [input_end]
        jne .input
        cmp byte [nic_pending], 0
        jne .nic
        mov eax, [counter]
        cmp eax, [counter_seen]
        jne .tick
        sti                             ; takes effect after the next instruction: no interrupt is lost in between
        hlt
        jmp main_loop
.input:
        sti
        call serial_input
        jmp main_loop
.nic:
        mov byte [nic_pending], 0
        sti
        call nic_serve
        jmp main_loop
.tick:
        sti
        mov [counter_seen], eax
        mov byte [nic_pending], 1       ; in case its interrupt does not arrive
        call power_button
        jmp main_loop

check_parameters:
        mov si, parameters.magic
        mov di, .magic
        mov cx, 8
        repe cmpsb
        je .right
        say "error reason=no-parameters"
        call print_newline
.stop:  cli
        hlt
        jmp .stop
.right: ret
.magic: db "BPTINY01"

; Give DS and ES a limit of 4 GiB. The BIOS takes it away, so this is called again after each of its calls.
flat:
        cli
        lgdt [.gdt_pointer]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp short .protected
.protected:
        mov bx, 8
        mov ds, bx
        mov es, bx
        and al, 0xFE
        mov cr0, eax
        jmp short .real
.real:  xor bx, bx
        mov ds, bx
        mov es, bx
        sti
        ret
        align 8
.gdt:   dq 0
        dq 0x008F92000000FFFF           ; data, writable, base 0, limit 0xFFFFF pages
.gdt_pointer:
        dw 15
        dd .gdt

%include "text.asm"
%include "commands.asm"
%include "disk.asm"
%include "interrupts.asm"
%include "pci.asm"
%include "network.asm"
%include "virtio_net.asm"
%include "e1000.asm"
%include "rtl8139.asm"

program_end:
PROGRAM_SECTORS equ (program_end - parameters + 511) / 512
%if program_end - boot > RINGS - 0x7C00
%error "the program overwrites the rings"
%endif
