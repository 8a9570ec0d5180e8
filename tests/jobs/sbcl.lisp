;;; SBCL: a Lisp whose garbage collector moves objects and protects memory, with compiled closures, hash tables, big
;;; integers, conditions and unwind-protect.
;;;
;;; Prints a line per step and ends with status 15.

(defvar *scale* (let ((text (sb-ext:posix-getenv "ZAP_JOB_SCALE"))) (if text (read-from-string text) 1)))
(defvar *rounds* (floor (* 700 *scale*)))
(defvar *sum* 0)
(defvar *unwound* 0)

(defun mix (sum number)
  (declare (type (unsigned-byte 62) sum))
  (mod (+ (* sum 1000003) number) 2305843009213693951))

(defun tree (depth seed)
  "A tree of conses that is garbage soon."
  (if (zerop depth)
      (mod seed 1009)
      (cons (tree (1- depth) (+ (* seed 3) 1)) (tree (1- depth) (+ (* seed 5) depth)))))

(defun tree-sum (tree)
  (if (consp tree) (mod (+ (* 31 (tree-sum (car tree))) (* 17 (tree-sum (cdr tree)))) 1000000007) tree))

(define-condition thrown (error) ((number :initarg :number :reader thrown-number)))

(defun throw-and-catch (number)
  (handler-case (unwind-protect (error 'thrown :number number) (incf *unwound*))
    (thrown (condition) (thrown-number condition))))

(let ((kept (make-hash-table :test 'equal)) (big 1))
  (loop for round from 1 to *rounds*
        do (loop for k from 1 to 40
                 do (let ((sum (tree-sum (tree 11 (+ (* round 100) k)))))
                      (setf *sum* (mix *sum* sum))
                      (setf (gethash (format nil "~36R" (mod sum 5000)) kept)
                            (list round k (make-array 50 :initial-element sum)))
                      (setf *sum* (mix *sum* (throw-and-catch sum)))))
           (setf big (mod (+ (* big big) (* 3 *sum*) 7) (expt 10 600)))
           (when (zerop (mod round 70))
             (format t "round ~D: ~36R, ~D kept~%" round *sum* (hash-table-count kept))
             (finish-output)))
  (let ((names (sort (loop for name being the hash-keys of kept collect name) #'string<)))
    (dolist (name names)
      (destructuring-bind (round k numbers) (gethash name kept)
        (setf *sum* (mix *sum* (+ round k (aref numbers 49)))))))
  (unless (= *unwound* (* *rounds* 40))
    (format t "FAIL: unwound ~D times~%" *unwound*)
    (sb-ext:exit :code 1 :abort t))
  (format t "result: ~36R, ~D~%" *sum* (mod big (expt 10 40)))
  (finish-output)
  (sb-ext:exit :code 15))
