; A TPM 2.0: a record in its non-volatile memory counts the starts, and shows whether its state is still there.
;
; Registers: TCG PC Client Platform TPM Profile for TPM 2.0 (PTP) 1.05, 6.3 (FIFO, which is TIS) and 6.4 (CRB).
; Commands: TCG TPM 2.0 Library, part 3, chapter 31.

TPM             equ 0xFED40000          ; locality 0
TPM_ACCESS      equ TPM + 0x00          ; FIFO: who may use it
TPM_LOC_CTRL    equ TPM + 0x08          ; CRB
TPM_LOC_STS     equ TPM + 0x0C          ; CRB
TPM_STS         equ TPM + 0x18          ; FIFO: status, then the burst count
TPM_FIFO        equ TPM + 0x24          ; FIFO
TPM_INTERFACE   equ TPM + 0x30          ; bits 0 to 3 are 1 for CRB
TPM_CTRL_REQ    equ TPM + 0x40          ; CRB
TPM_CTRL_START  equ TPM + 0x4C          ; CRB
TPM_CRB_BUFFER  equ TPM + 0x80          ; QEMU has it there (hw/tpm/tpm_crb.c)

TPM_INDEX       equ 0x01800B00          ; of those that the owner defines (Registry of Reserved TPM 2.0 Handles, 2.2.2)
TPM_ATTRIBUTES  equ 1 << 1 | 1 << 2 | 1 << 17 | 1 << 18 | 1 << 25       ; written and read by owner or index; no lockout
TPM_OWNER       equ 0x40000001
TPM_PASSWORD    equ 0x40000009
TPM_NO_HANDLE   equ 0x18B               ; the index is not defined
TPM_DISABLED    equ 0x185               ; the owner's hierarchy is off
TPM_RESETS      equ 5                   ; at most
CMOS_RESETS     equ 0x7E                ; a byte that nobody uses, and that is 0 when the machine is powered on
TPM_NO_ANSWER   equ -1

TPM_RECORD_BYTES equ NAME_BYTES + 4     ; a nonce, and how often its guest started
TPM_READ_DATA   equ 16                  ; where data is in the answer to a read

; Numbers of the TPM have their high byte first.
%macro be16 1
        db (%1) >> 8 & 0xFF, (%1) & 0xFF
%endmacro
%macro be32 1
        be16 (%1) >> 16
        be16 (%1)
%endmacro
; tpm_head bytes, command: its head, and a session with an empty password for one or two handles.
%macro tpm_head 3-4
        be16 0x8002
        be32 %1
        be32 %2
        be32 %3
%if %0 == 4
        be32 %4
%endif
        be32 9
        be32 TPM_PASSWORD
        times 5 db 0
%endmacro

; Count this start in the record. If there is none of this nonce, make one.
tpm_start:
        mov eax, [dword TPM_INTERFACE]
        inc eax
        cmp eax, 1                      ; nobody answers: all ones, or zeros
        jbe .done
        mov byte [tpm_present], 1
        call tpm_count
        jnc .done
        mov byte [tpm_failed], 1
        cmp dword [tpm_code], TPM_DISABLED
        jne .done
        cli                             ; the clock's interrupt selects another byte
        mov al, CMOS_RESETS             ; SeaBIOS turned the TPM off, because its self-test took longer than 2 s: try again
        out 0x70, al
        in al, 0x71
        cmp al, TPM_RESETS
        jae .enough
        inc ax
        out 0x71, al
        mov dx, 0xCF9                   ; reset
        mov al, 6
        out dx, al
.reset: hlt
        jmp .reset
.enough:
        sti
.done:  ret

; Carry: it failed.
tpm_count:
        call tpm_read
        jc .unread
        mov si, parameters.nonce
        mov di, tpm_answer + TPM_READ_DATA
        mov cx, NAME_BYTES
        repe cmpsb
        jne .new
        mov eax, [di]
        jmp .write
.unread:
        cmp dword [tpm_code], TPM_NO_HANDLE
        stc
        jne .failed
        mov si, tpm_define_command
        call tpm_send
        jc .failed
.new:   xor eax, eax
.write: inc eax
        mov si, parameters.nonce
        mov di, tpm_write_command.data
        mov cx, NAME_BYTES
        rep movsb
        mov [di], eax
        mov si, tpm_write_command
        jmp tpm_send
.failed:
        ret

; The record is read from the TPM for this, unless the TPM failed at the start.
print_tpm:
        cmp byte [tpm_present], 0
        je .none
        cmp byte [tpm_failed], 0
        jne .failed
        call tpm_read
        jc .failed
        say " tpm="
        mov si, tpm_answer + TPM_READ_DATA
        call print_name
        say " tpm-boots="
        mov eax, [tpm_answer + TPM_READ_DATA + NAME_BYTES]
        jmp print_decimal
.failed:
        say " tpm=error:0x"
        mov cx, 4
        mov bx, tpm_code + 3
.byte:  mov al, [bx]
        call print_hex
        dec bx
        loop .byte
        ret
.none:  say " tpm=none"
        ret

tpm_read:
        mov si, tpm_read_command
; SI: a command. Carry: it failed, and `tpm_code` is the TPM's reason or TPM_NO_ANSWER.
tpm_send:
        mov dword [tpm_code], TPM_NO_ANSWER
        mov eax, [dword TPM_INTERFACE]
        and al, 15
        cmp al, 1
        je .crb
        call tpm_fifo_send
        jmp .sent
.crb:   call tpm_crb_send
.sent:  jc .done
        mov eax, [tpm_answer + 6]
        bswap eax
        mov [tpm_code], eax
        neg eax                         ; carry unless it is 0
.done:  ret

tpm_fifo_send:
        mov byte [dword TPM_ACCESS], 1 << 1             ; request
        mov ebx, TPM_ACCESS
        mov edx, 1 << 5                 ; active
        call tpm_wait
        jc .done
        mov byte [dword TPM_STS], 1 << 6                ; ready for a command
        mov ebx, TPM_STS
        mov edx, 1 << 6
        call tpm_wait
        jc .done
        movzx cx, byte [si + 5]
.send:  mov edx, 0xFFFF << 8            ; the burst count
        call tpm_wait
        jc .done
        lodsb
        mov [dword TPM_FIFO], al
        loop .send
        mov byte [dword TPM_STS], 1 << 5                ; go
        mov edx, 1 << 4                 ; data is available
        call tpm_wait
        jc .done
        mov di, tpm_answer
        mov cx, TPM_ANSWER_BYTES
.byte:  mov al, [dword TPM_FIFO]
        stosb
        test byte [dword TPM_STS], 1 << 4
        loopnz .byte
        mov byte [dword TPM_STS], 1 << 6
        mov byte [dword TPM_ACCESS], 1 << 5             ; relinquish
.done:  ret                             ; the last that changed the carry was `test`, which cleared it, or `tpm_wait`

tpm_crb_send:
        mov dword [dword TPM_LOC_CTRL], 1               ; request
        mov ebx, TPM_LOC_STS
        mov edx, 1                      ; granted
        call tpm_wait
        jc .done
        mov dword [dword TPM_CTRL_REQ], 1               ; ready for a command
        mov ebx, TPM_CTRL_REQ
        call tpm_wait_clear
        jc .done
        movzx cx, byte [si + 5]
        mov edi, TPM_CRB_BUFFER
.send:  lodsb
        mov [edi], al
        inc edi
        loop .send
        mov dword [dword TPM_CTRL_START], 1
        mov ebx, TPM_CTRL_START
        call tpm_wait_clear
        jc .done
        mov di, tpm_answer
        mov ebx, TPM_CRB_BUFFER
        mov cx, TPM_ANSWER_BYTES
.byte:  mov al, [ebx]
        stosb
        inc ebx
        loop .byte
        mov dword [dword TPM_CTRL_REQ], 2               ; idle
        mov dword [dword TPM_LOC_CTRL], 2               ; relinquish
        clc
.done:  ret

; EBX: a register, EDX: bits. Wait until one of them is set, or the one is clear. Carry: not within 16 s.
tpm_wait_clear:
        mov eax, edx
        jmp tpm_wait_for
tpm_wait:
        xor eax, eax
tpm_wait_for:
        pushad
        call counter_in_16_s
.again: mov ecx, [ebx]
        xor ecx, eax
        test ecx, edx
        jnz .done
        mov ecx, [counter]
        sub ecx, esi
        js .again
        stc
.done:  popad
        ret

        align 4
tpm_code:       dd 0
tpm_present:    db 0
tpm_failed:     db 0

tpm_read_command:                       ; TPM2_NV_Read, 31.13: bytes, offset
        tpm_head .end - tpm_read_command, 0x14E, TPM_INDEX, TPM_INDEX
        be16 TPM_RECORD_BYTES
        be16 0
.end:
tpm_write_command:                      ; TPM2_NV_Write, 31.7: data, offset
        tpm_head .end - tpm_write_command, 0x137, TPM_INDEX, TPM_INDEX
        be16 TPM_RECORD_BYTES
.data:  times TPM_RECORD_BYTES db 0
        be16 0
.end:
tpm_define_command:                     ; TPM2_NV_DefineSpace, 31.3: no password, and the index (part 2, 13.5)
        tpm_head .end - tpm_define_command, 0x12A, TPM_OWNER
        be16 0
        be16 14
        be32 TPM_INDEX
        be16 0x000B                     ; its name is a SHA-256
        be32 TPM_ATTRIBUTES
        be16 0                          ; no policy
        be16 TPM_RECORD_BYTES
.end:
TPM_ANSWER_BYTES equ TPM_READ_DATA + TPM_RECORD_BYTES + 5               ; of a read, the longest
tpm_answer:     times TPM_ANSWER_BYTES db 0
