; The tiny guest for UEFI: an application, \EFI\BOOT\BOOTX64.EFI, with the same program (`program.asm`).
;
;       nasm -f bin -o uefi.efi uefi.asm
;
; It ends the boot services, so that neither their timer nor their consoles wake the machine any more, and goes on in real
; mode. The record is a non-volatile variable (`variables.asm`).
;
; The file has one section. It needs no relocations: the 64-bit code finds its data by RIP, and the program is copied to its
; address. Formats: Microsoft PE, UEFI 2.10, 2.1.1.

%define RECORD_STORE "variable"
%define NEEDS_NEWLINE                   ; before the first answer, for the firmware prints without one
PROGRAM_AT      equ 4096                ; in the file: `_UEFI_PARAMETERS` in harness/guests/tiny_guest.py
ALIGNMENT       equ 512
FILE_BYTES      equ PROGRAM_AT + (PROGRAM_BYTES + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
MAP_BYTES       equ 64 << 10            ; behind the file, for the memory map

LOW_MEMORY      equ 0x7000              ; what the program uses: stack, program, rings, frames
LOW_PAGES       equ (0x20000 - LOW_MEMORY) >> 12

        section .application start=0
        bits 64
        default rel

application:
        db "MZ"
        times 0x3C - ($ - $$) db 0
        dd .signature - application
.signature:
        db "PE", 0, 0
        dw 0x8664, 1                    ; x86-64, one section
        dd 0, 0, 0                      ; no time, no symbols
        dw .sections - .optional
        dw 1 << 1 | 1 << 5 | 1 << 9     ; executable, large addresses, no debug information
.optional:
        dw 0x20B, 0                     ; PE32+
        dd FILE_BYTES - ALIGNMENT, MAP_BYTES, 0         ; code, data, uninitialized data
        dd start - application, ALIGNMENT               ; entry, code
        dq 0                            ; any address
        dd ALIGNMENT, ALIGNMENT         ; of sections in memory, in the file
        dw 0, 0, 0, 0, 0, 0
        dd 0
        dd FILE_BYTES + MAP_BYTES, ALIGNMENT            ; image, headers
        dd 0
        dw 10, 0                        ; a UEFI application
        dq 0, 0, 0, 0
        dd 0, 6
        times 6 dq 0                    ; directories: no relocations are needed
.sections:
        db ".text", 0, 0, 0
        dd FILE_BYTES - ALIGNMENT + MAP_BYTES, ALIGNMENT
        dd FILE_BYTES - ALIGNMENT, ALIGNMENT
        dd 0, 0, 0
        dd 0xE0000060                   ; code and data; execute, read, write
        times ALIGNMENT - ($ - $$) db 0

; Offsets in the tables of UEFI 2.10, 4.3 to 4.5.
SYSTEM_RUNTIME  equ 88
SYSTEM_BOOT     equ 96
BOOT_ALLOCATE   equ 40
BOOT_MEMORY_MAP equ 56
BOOT_EXIT       equ 232
RUNTIME_GET     equ 72
RUNTIME_SET     equ 88

; RCX: handle of this image, RDX: system table. What cannot go on returns, and the firmware tries its next boot option.
start:
        push rbx
        push rbp
        sub rsp, 8 + 48
        mov rbp, rcx
        mov rbx, [rdx + SYSTEM_BOOT]
        mov rax, [rdx + SYSTEM_RUNTIME]
        mov rcx, [rax + RUNTIME_GET]
        mov [get_variable], rcx
        mov rcx, [rax + RUNTIME_SET]
        mov [set_variable], rcx

        mov ecx, 2                      ; at this address
        mov edx, 1                      ; code of a loader: memory that can be executed
        mov r8d, LOW_PAGES
        lea r9, [low_memory]
        call [rbx + BOOT_ALLOCATE]
        test rax, rax
        jnz .cannot

        mov byte [tries], 8
.again: dec byte [tries]                ; a map that has changed meanwhile is refused
        js .cannot
        mov qword [map_bytes], MAP_BYTES
        lea rcx, [map_bytes]
        lea rdx, [application + FILE_BYTES]
        lea r8, [map_key]
        lea r9, [descriptor_bytes]
        lea rax, [descriptor_version]
        mov [rsp + 32], rax
        call [rbx + BOOT_MEMORY_MAP]
        test rax, rax
        jnz .cannot
        mov rcx, rbp
        mov rdx, [map_key]
        call [rbx + BOOT_EXIT]
        test rax, rax
        jnz .again
        jmp take_over
.cannot:
        add rsp, 8 + 48
        pop rbp
        pop rbx
        ret

; The boot services have ended. Keep what calls of the firmware need, and go to `main`.
take_over:
        cli
        cld
        lea rsi, [application + PROGRAM_AT]
        mov edi, parameters
        mov ecx, PROGRAM_BYTES
        rep movsb
        mov rax, [get_variable]
        mov [abs firmware.get_variable], rax
        mov rax, [set_variable]
        mov [abs firmware.set_variable], rax
        mov rax, cr0
        mov [abs firmware.cr0], eax
        mov rax, cr3                    ; its page tables are below 4 GiB, as in every firmware that started in 32 bits
        mov [abs firmware.cr3], eax
        mov rax, cr4
        mov [abs firmware.cr4], eax
        mov ecx, EFER
        rdmsr
        and eax, ~(1 << 10)             ; "long mode active" is not written
        mov [abs firmware.efer], eax
        mov [abs firmware.rsp], rsp
        call take_interrupts
        lgdt [abs descriptors_pointer]
        jmp leave_long_mode

; The interrupt controllers as a BIOS leaves them: vectors 8 to 15 and 0x70 to 0x77, all masked, and through the local APIC.
take_interrupts:
        mov eax, 0xFEE00000
        mov dword [rax + 0x320], 1 << 16                ; the APIC's timer, masked
        mov dword [rax + 0x350], 7 << 8                 ; its input 0: from those controllers
        lea rsi, [.settings]
        mov ecx, 10
.next:  lodsw
        movzx edx, al
        mov al, ah
        out dx, al
        dec ecx
        jnz .next
        ret
.settings:                              ; port, value
        db 0x20, 0x11,  0x21, 0x08,  0x21, 1 << 2,  0x21, 1
        db 0xA0, 0x11,  0xA1, 0x70,  0xA1, 2,       0xA1, 1
        db 0x21, 0xFF,  0xA1, 0xFF

leave_long_mode:
        mov eax, REAL_CODE
        push rax
        mov eax, to_real_mode
        push rax
        o64 retf

        align 8
get_variable:           dq 0
set_variable:           dq 0
low_memory:             dq LOW_MEMORY
map_bytes:              dq 0
map_key:                dq 0
descriptor_bytes:       dq 0
descriptor_version:     dd 0
tries:                  db 0

        times PROGRAM_AT - ($ - $$) db 0

        section .program follows=.application align=512 vstart=0x7E00
        bits 16
        default abs

%include "program.asm"
%include "variables.asm"

program_end:
PROGRAM_BYTES   equ program_end - parameters
%if program_end - parameters > RINGS - 0x7E00
%error "the program overwrites the rings"
%endif
        times -PROGRAM_BYTES & (ALIGNMENT - 1) db 0
