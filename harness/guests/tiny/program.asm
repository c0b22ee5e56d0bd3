; The program of the tiny guest: it counts, answers on COM1, keeps a record, and answers ARP, ping and TCP.
;
; It is in real mode. The descriptor caches of DS and ES get a limit of 4 GiB ("big real mode", `flat`), which reaches the
; registers of network cards and of the TPM.
;
; Nothing runs until an interrupt: of the real time clock, once a second by default, of COM1, or of the network card.
; The state is memory, the record and the card's rings, so that all of it is there again after a migration or a restore.
;
; What includes it has the functions `record_read` and `record_write`, and the name of what the record is kept in.
;
; Memory:
;       0x07000 stack, downwards from 0x7C00
;       0x07E00 parameters, program
;       0x0C000 rings of the network card
;       0x0C800 the record
;       0x10000 frames, 2 KiB each: received ones, then those to be sent

RINGS           equ 0xC000
RECORD          equ 0xC800
RECORD_BYTES    equ 512
NAME_BYTES      equ 32                  ; a nonce or a word, with at least one NUL at its end

; say "text" prints it.
%macro say 1+
        call print_inline
        db %1, 0
%endmacro

; The layout is that of `parameters` in harness/guests/tiny_guest.py.
parameters:
.magic:         times 8 db 0
.nonce:         times NAME_BYTES db 0
.rate:          db 0                    ; of the real time clock's interrupt: 32768 Hz >> (rate - 1), or 0 for 1 Hz
.addresses:     db 0                    ; how many rows follow
.rows:          times 512 - ($ - parameters) db 0       ; a MAC and its IPv4 address, or zeros for any MAC
ROW_BYTES       equ 10

main:
        call serial_start
        call check_parameters
        call flat
        call nic_start
        call interrupts_start
        call tpm_start                  ; waits by the counter, and may reset the machine
        call record_start
%ifdef NEEDS_NEWLINE
        call print_newline
%endif
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
%include "record.asm"
%include "interrupts.asm"
%include "pci.asm"
%include "network.asm"
%include "tcp.asm"
%include "virtio_net.asm"
%include "e1000.asm"
%include "rtl8139.asm"
%include "tpm.asm"

