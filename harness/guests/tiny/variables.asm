; The record is a non-volatile variable of the firmware, which is called in 64-bit mode: as it was when the boot services ended,
; with its page tables and its stack. No interrupt is taken meanwhile.

EFER            equ 0xC0000080
DATA            equ 8                   ; segments
FIRMWARE_CODE   equ 16
REAL_CODE       equ 24
VARIABLE_BYTES  equ 80                  ; the record without the rest of its sector
NOT_FOUND       equ 14
VARIABLE_KEPT   equ 1 | 2 | 4           ; non-volatile, of boot services and runtime

; Carry: it failed, and `record_status` is the low byte of the firmware's reason (UEFI 2.10, appendix D). A variable that is
; not there is a record of zeros.
record_read:
        mov dword [variable_bytes], RECORD_BYTES
        mov dword [argument_3], 0       ; where its attributes are to be written
        mov dword [argument_4], variable_bytes
        mov ebx, firmware.get_variable
        call firmware_call
        jnc .done
        cmp byte [record_status], NOT_FOUND
        stc
        jne .done
        pusha
        mov di, RECORD
        mov cx, RECORD_BYTES
        xor al, al
        rep stosb                       ; XOR cleared the carry
        popa
.done:  ret

record_write:
        mov dword [argument_3], VARIABLE_KEPT
        mov dword [argument_4], VARIABLE_BYTES
        mov ebx, firmware.set_variable
; EBX: where the function is. Its first two arguments are the variable's name and namespace, its last one is the record.
firmware_call:
        pushad
        cli
        mov [.stack], sp
        lgdt [descriptors_pointer]
        mov eax, [firmware.cr4]
        mov cr4, eax
        mov eax, [firmware.cr3]
        mov cr3, eax
        mov ecx, EFER
        rdmsr
        mov eax, [firmware.efer]
        wrmsr
        mov eax, [firmware.cr0]
        mov cr0, eax
        jmp FIRMWARE_CODE:.long_mode

        bits 64
.long_mode:
        mov ebx, ebx                    ; the upper half of a register is undefined after another mode
        mov eax, DATA
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov rsp, [firmware.rsp]
        and rsp, ~15
        sub rsp, 48
        mov qword [rsp + 32], RECORD
        mov ecx, variable_name
        mov edx, variable_namespace
        mov r8d, [argument_3]
        mov r9d, [argument_4]
        call [rbx]
        cli
        mov [record_status], al
        mov eax, REAL_CODE
        push rax
        mov eax, to_real_mode
        push rax
        o64 retf

        bits 16
        align 16
to_real_mode:                           ; through 16-bit protected mode; the descriptor caches keep their limits
        mov eax, DATA
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov eax, cr0
        and eax, ~(1 << 31)             ; no paging
        mov cr0, eax
        mov ecx, EFER
        rdmsr
        and eax, ~(1 << 8)              ; no long mode
        wrmsr
        mov eax, cr0
        and eax, ~(1 << 0)              ; no protection
        mov cr0, eax
        jmp 0:.real
.real:  xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        lidt [vectors_pointer]
        jmp [in_real_mode]

firmware_called:
        mov sp, [firmware_call.stack]
        popad
        sti
        cmp byte [record_status], 1
        cmc                             ; carry unless it is 0
        ret

; The program begins: all vectors ignore what interrupts, for example a timer of the firmware that is still pending.
real_mode_start:
        mov sp, 0x7C00
        mov word [in_real_mode], firmware_called
        xor di, di
        mov cx, 256
        mov eax, .ignored
        rep stosd
        sti
        jmp main
.ignored:
        iret

        align 8
in_real_mode:           dw real_mode_start
firmware_call.stack:    dw 0
descriptors:
        dq 0
        dq 0x008F92000000FFFF           ; data, writable, base 0, limit 0xFFFFF pages
        dq 0x00AF9A000000FFFF           ; code, 64 bits
        dq 0x00009A000000FFFF           ; code, 16 bits, limit 0xFFFF
descriptors_pointer:
        dw $ - descriptors - 1
        dq descriptors
vectors_pointer:
        dw 0x3FF
        dd 0

        align 8
firmware:
.get_variable:  dq 0
.set_variable:  dq 0
.rsp:           dq 0
.cr0:           dd 0
.cr3:           dd 0
.cr4:           dd 0
.efer:          dd 0
variable_bytes: dq 0
argument_3:     dd 0
argument_4:     dd 0
variable_namespace:                     ; f6c1e1c5-6b5e-4c6f-8d0e-5b0f7a3c9e21, of Bootproof alone
        dd 0xF6C1E1C5
        dw 0x6B5E, 0x4C6F
        db 0x8D, 0x0E, 0x5B, 0x0F, 0x7A, 0x3C, 0x9E, 0x21
variable_name:
        dw __?utf16le?__("BootproofRecord"), 0
