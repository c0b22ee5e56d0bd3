; COM1: text out, and bytes in, which the interrupt puts into `input` until main has time for them.

COM1            equ 0x3F8
INPUT_BYTES     equ 128                 ; a power of two
TAKES_A_BYTE    equ 0x20                ; in the line status
OUTPUT_WAITS            equ 0           ; states of `output`
OUTPUT_DROPS_LINE       equ 1
OUTPUT_WAS_STUCK        equ 2

serial_start:
        mov si, .settings
        mov cx, 7
.next:  lodsw                           ; AL: register, AH: value
        movzx dx, al
        add dx, COM1
        mov al, ah
        out dx, al
        loop .next
        ret
.settings:
        db 1, 0x00                      ; no interrupts yet
        db 3, 0x80                      ; divisor: 115200 baud
        db 0, 0x01
        db 1, 0x00
        db 3, 0x03                      ; 8 bits, no parity, one stop bit
        db 2, 0x07                      ; FIFOs on and empty
        db 4, 0x0B                      ; DTR, RTS, and OUT2, which connects the interrupt

; AL: a character. If nobody takes the output for a while, the rest of the line is dropped, and later lines at once. The
; first one that is taken again begins with the end of a line. Pings are answered meanwhile.
print_char:
        pushad
        mov bl, al
        mov dx, COM1 + 5
        cmp byte [output], OUTPUT_DROPS_LINE
        je .done
        cmp byte [output], OUTPUT_WAITS
        je .wait
        in al, dx
        test al, TAKES_A_BYTE
        jz .stuck
        mov byte [output], OUTPUT_WAITS
        mov dx, COM1
        mov al, 10
        out dx, al
        mov dx, COM1 + 5
.wait:  call counter_in_16_s
.again: in al, dx
        test al, TAKES_A_BYTE
        jnz .ready
        cmp byte [nic_pending], 0
        je .patience
        mov byte [nic_pending], 0
        pushad
        call nic_serve
        popad
.patience:
        mov eax, [counter]
        sub eax, esi
        js .again
.stuck: mov byte [output], OUTPUT_DROPS_LINE
        jmp .done
.ready: mov dx, COM1
        mov al, bl
        out dx, al
.done:  popad
        ret

; ESI: what the counter will be in 16 seconds, or later.
counter_in_16_s:
        push cx
        mov cl, [parameters.rate]
        dec cl
        mov esi, 32768
        shr esi, cl                     ; counts of a second, or 0 for rate 0
        inc esi
        shl esi, 4
        add esi, [counter]
        pop cx
        ret

; The text behind the call, up to a NUL.
print_inline:
        pop si
        call print_text
        push si
        ret

; SI: text up to a NUL; behind it afterwards.
print_text:
        push ax
.next:  lodsb
        test al, al
        jz .done
        call print_char
        jmp .next
.done:  pop ax
        ret

; SI: a name up to a NUL, or "-" for an empty one.
print_name:
        cmp byte [si], 0
        jne print_text
        say "-"
        ret

print_newline:
        say 13, 10
        cmp byte [output], OUTPUT_DROPS_LINE
        jne .done
        mov byte [output], OUTPUT_WAS_STUCK
.done:  ret

; EAX: a number.
print_decimal:
        pushad
        mov ebx, 10
        xor cx, cx
.divide:
        xor edx, edx
        div ebx
        push dx
        inc cx
        test eax, eax
        jnz .divide
.print: pop ax
        add al, '0'
        call print_char
        loop .print
        popad
        ret

; AL: a byte, as two hexadecimal digits.
print_hex:
        push ax
        shr al, 4
        call .digit
        pop ax
.digit: push ax
        and al, 15
        cmp al, 10
        jb .decimal
        add al, 'a' - '0' - 10
.decimal:
        add al, '0'
        call print_char
        pop ax
        ret

serial_interrupt:
        push ax
        push bx
        push dx
        push ds
        xor ax, ax
        mov ds, ax
.next:  mov dx, COM1 + 5
        in al, dx
        test al, 1                      ; a byte is there
        jz .done
        mov dx, COM1
        in al, dx
        mov bx, [input_end]
        mov [input + bx], al
        inc bx
        and bx, INPUT_BYTES - 1
        mov [input_end], bx
        jmp .next
.done:  mov al, 0x20                    ; end of interrupt
        out 0x20, al
        pop ds
        pop dx
        pop bx
        pop ax
        iret

; Take one byte of the input; at the end of a line, run its command.
serial_input:
        mov bx, [input_begin]
        mov al, [input + bx]
        inc bx
        and bx, INPUT_BYTES - 1
        mov [input_begin], bx
        mov bx, [line_length]
        cmp al, 13
        je .end
        cmp al, 10
        je .end
        cmp bx, INPUT_BYTES - 1
        jae .full                       ; what is too long for a line is no command either
        mov [line + bx], al
        inc word [line_length]
.full:  ret
.end:   mov byte [line + bx], 0
        mov word [line_length], 0
        test bx, bx
        jnz run_command
        ret

        align 4
input_begin:    dw 0
input_end:      dw 0
line_length:    dw 0
output:         db OUTPUT_WAITS
input:          times INPUT_BYTES db 0
line:           times INPUT_BYTES db 0
